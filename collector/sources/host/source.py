"""The host source: reads each group when it is due, and repeats its samples until it is read again.

A collection reads the groups that are due, each for ``group_timeout_seconds`` at most. A group that fails or hangs, or
gives nothing but errors, has ``node_scrape_collector_success`` 0 and no samples until it is due again; other groups are
not affected. If
[source.host.cadence] makes a group slower than the frames, each frame in between repeats its last samples, with the
time of the frame, so that a scrape always has them.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from collector.loop.timeouts import CallPool
from collector.source import Collection, MetricSource, Sample
from collector.sources.host.files import Files
from collector.sources.host.group import Group, Places, Read, gauge
from collector.sources.host.options import GROUPS, HostOptions
from shm.metric import Metric
from shm.safe_repr import said

log = logging.getLogger(__name__)

# node_exporter's metrics of its collectors, here of each group.
DURATION = gauge(
    "node_scrape_collector_duration_seconds", "How long the group's last reading took.", "seconds", "collector"
)
SUCCESS = gauge("node_scrape_collector_success", "1 when the group's last reading succeeded, else 0.", "", "collector")

# Ticks are not exact: a group that is due this much later is read now, not a frame later.
_EARLY_SHARE = 0.05
_MOST_EARLY_SECONDS = 0.1


_Timed = tuple[Collection | Exception, float]  # a group's reading or exception, and its duration in seconds


@dataclass(slots=True)
class _Turn:
    """The state of one group: how to read it, when it is due, and its last samples and errors."""

    group: Group
    read: Read
    cadence_seconds: float
    due: float = 0.0
    succeeded: bool = False
    samples: tuple[Sample, ...] = ()
    errors: list[str] = field(default_factory=list)


class HostMetricSource(MetricSource):
    """Reads this host in ``groups``, by default those of the options. ``clock`` is monotonic, in seconds."""

    name = "host"
    # Ten series per processor, seventeen per disk: enough for 128 processors, 100 disks and the rest. Per metric: eight
    # modes of 256 processors.
    default_max_series = 4000
    default_max_series_per_metric = 2048

    def __init__(
        self,
        options: HostOptions | None = None,
        groups: Iterable[Group] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.options = options or HostOptions()
        self.notes = self.options.old_spellings
        self._clock = clock
        places = Places(Files(self.options.proc), Files(self.options.sys))
        self._turns = [
            _Turn(group, group.reader(places, self.options), self.options.cadence.get(group.name, 0.0))
            for group in (load(self.options.groups) if groups is None else groups)
        ]
        self.metrics: tuple[Metric, ...] = (
            *(one for turn in self._turns for one in turn.group.metrics),
            DURATION,
            SUCCESS,
        )
        self._calls: CallPool[_Timed] = CallPool("group")

    def collect(self) -> Collection:
        now = self._clock()
        due = {turn.group.name: turn for turn in self._turns if turn.due <= now}
        answers = self._calls.call(
            {name: _timed(turn.read) for name, turn in due.items()}, self.options.group_timeout_seconds
        )
        for name, turn in due.items():
            early = min(_EARLY_SHARE * turn.cadence_seconds, _MOST_EARLY_SECONDS)
            turn.due = now + turn.cadence_seconds - early
            _take(turn, answers[name], self.options.group_timeout_seconds)
        return Collection(
            [sample for turn in self._turns for sample in turn.samples],
            [error for turn in due.values() for error in turn.errors],
            up=any(turn.succeeded for turn in self._turns),
        )

    def close(self) -> None:
        self._calls.close()


def load(names: Iterable[str] = GROUPS) -> list[Group]:
    """Import the groups with these names, ordered by name."""
    return [importlib.import_module(f"collector.sources.host.{name}").GROUP for name in sorted(set(names))]


def _timed(read: Read) -> Callable[[], _Timed]:
    def job() -> _Timed:
        begun = time.perf_counter()
        try:
            answer: Collection | Exception = read()
        except Exception as error:  # noqa: BLE001 - a failure has a duration, too
            answer = error
        return answer, time.perf_counter() - begun

    return job


def _take(turn: _Turn, outcome: _Timed | Exception, limit_seconds: float) -> None:
    """Store the outcome of reading a group; ``outcome`` is an exception if the group hangs."""
    answer, seconds = (outcome, limit_seconds) if isinstance(outcome, Exception) else outcome
    if isinstance(answer, Exception):
        log.debug("group failed", extra={"group": turn.group.name}, exc_info=answer)
        answer = Collection((), (said(answer),))
    turn.succeeded = bool(answer.samples or not answer.errors)
    labels = {"collector": turn.group.name}
    turn.errors = [f"{turn.group.name}: {error}" for error in answer.errors]
    turn.samples = (
        *answer.samples,
        Sample(DURATION.name, seconds, labels),
        Sample(SUCCESS.name, int(turn.succeeded), labels),
    )
