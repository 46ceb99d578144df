"""RingCollector: exports the rings of this host from any program that uses prometheus_client.

REGISTRY.register(RingCollector())
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Final

from prometheus_client import Metric
from prometheus_client.core import Sample, Timestamp

from exporter.applications import ApplicationSet, Shown, shown_series
from exporter.exposition.conflicts import Family, gather
from exporter.exposition.latest import (
    TIMED_TYPES,
    fresh_values,
    offsets,
    present_levels,
    sample_times_ms,
    samples,
)
from exporter.exposition.template import UNGUARDED
from exporter.rings import RingSet
from shm.errors import ConfigurationError
from shm.files import check_name
from shm.owners import user_number
from shm.ring.discovery import foreign_files
from shm.ring.frame import absent

log = logging.getLogger(__name__)

_WHERE: Final = "RingCollector()"


class RingCollector:
    """A custom collector of prometheus_client: the latest samples of all fresh rings and of applications.

    The series, names and types are those of /metrics, without the exporter's own. ``owner``: user whose rings are
    trusted, by name or number, empty for this program's user; ``users``: further users whose applications are trusted;
    ``label``: of all their series, with the application's name, empty for none. ``timestamps``: which samples have the
    time of their frame, as ``[exporter] timestamps``. Any thread may collect. Raises ConfigurationError for an invalid
    namespace, an unknown user or other timestamps.
    """

    def __init__(
        self, namespace: str = "default", *, owner: str = "", users: Sequence[str] = (),
        label: str = "application", timestamps: str = "counters", stale_intervals: float = 3.0,
    ) -> None:  # fmt: skip
        check_name(f"{_WHERE} namespace", namespace)
        if timestamps not in TIMED_TYPES:
            raise ConfigurationError(f"{_WHERE} timestamps is {timestamps!r}; give one of {', '.join(TIMED_TYPES)}")
        self._timed = TIMED_TYPES[timestamps]
        number = user_number(owner, _WHERE)
        self._rings = RingSet(namespace, owner=number, stale_intervals=stale_intervals)
        trusted = {number, *(user_number(one, _WHERE, "users") for one in users)}
        self._applications = ApplicationSet(namespace, trusted, label)
        self._lock = threading.Lock()
        self._foreign = False  # whether the log has it that there are files of untrusted users

    def describe(self) -> Iterable[Metric]:
        """No metrics: they change with the rings, so no names are reserved at registration."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """One family per metric. A ring that can't be read is omitted; the log has the reason."""
        with self._lock:
            rings, applications = self._rings.refresh(), self._applications.refresh()
            left_out = foreign_files(self._rings.files, self._applications.files)
            if left_out and not self._foreign:
                log.warning("foreign files", extra={"error": left_out})
            self._foreign = bool(left_out)
            shown: list[Shown] = [*rings, *applications]
            stale = self._rings.stale(shown)
            widths = [one.width for one in shown]
            values = fresh_values(shown, widths, stale)
            levels = present_levels(shown, stale)
            families = gather([(one.source, shown_series(one)) for one in shown], levels=levels).families
            times_ms = sample_times_ms(shown, widths).tolist()
        present, numbers, starts = (~absent(values)).tolist(), values.tolist(), offsets(widths)
        none = [0] * len(numbers)
        found = [
            _client_metric(one, starts, numbers, present, times_ms if one.metric.type in self._timed else none)
            for one in families
        ]
        return [one for one in found if one.samples]

    def close(self) -> None:
        """Close the rings, and free the memory of replaced ones. Collecting again opens them."""
        with self._lock:
            self._rings.close()
            self._applications.close()


def _client_metric(
    family: Family, starts: list[int], numbers: list[float], present: list[bool], times_ms: list[int]
) -> Metric:
    metric = family.metric
    # prometheus_client would append any other unit to the name.
    unit = metric.unit if metric.family.endswith(f"_{metric.unit}") else ""
    found = Metric(metric.family, metric.help, metric.type, unit)
    for placed in family.placed:
        for name, labels, at, guard in samples(placed, starts[placed.ring]):
            # Omit what OpenMetrics forbids, since the format of the page is not known here.
            if present[at] and (guard == UNGUARDED or (guard >= 0 and numbers[guard] >= 0)):
                found.samples.append(Sample(name, dict(labels), numbers[at], _timestamp(times_ms[at])))
    return found


def _timestamp(time_ms: int) -> Timestamp | None:
    """None for 0. A microsecond is added, so that no program that cuts off milliseconds after a float gets one less."""
    return Timestamp(time_ms // 1000, time_ms % 1000 * 1_000_000 + 1000) if time_ms else None
