"""Read a ring's time series by metric name: timestamps and values as arrays, oldest first.

with RingReader("default", "node") as reader:
    for series in time_series(reader, "cpu_usage_percent"):
        print(series.labels, series.timestamps[-1], series.values[-1])
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from shm.errors import MetricError
from shm.metric import Metric, Series

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from shm.ring.reader import RingReader


class TimeSeries(NamedTuple):
    """The samples of one series: ``timestamps`` in Unix seconds, rising; ``values`` in the metric's unit.

    Both are float64, shape (n,).
    """

    labels: dict[str, str]
    timestamps: NDArray[np.float64]
    values: NDArray[np.float64]


def time_series(
    reader: RingReader, name: str, start: float | None = None, end: float | None = None,
    labels: Mapping[str, str] | None = None,
) -> list[TimeSeries]:  # fmt: skip
    """The samples of each series of a metric with start ≤ time ≤ end, without the frames in which a series is absent.

    ``start``, ``end``: Unix seconds; None: without that bound. ``labels``: only series with these labels. The values of
    a histogram are the raw sample of each frame, those of a summary the count of its observations. A series without a
    sample in that time has empty arrays. Raises MetricError for a metric that the ring does not have.
    """
    import numpy as np  # only for callers that ask for arrays

    from shm.ring.frame import absent

    wanted = (labels or {}).items()
    of_metric = [series for series in reader.series if name in names_of(series.metric)]
    if not of_metric:
        known = [metric.name for metric in reader.catalog.metrics]
        raise MetricError(f"ring {reader.source!r} has no metric {name!r}; {did_you_mean(name, known)}")
    chosen: list[Series] = [series for series in of_metric if wanted <= series.labels.items()]
    since_ns = None if start is None else nanoseconds("start", start) - 1
    frames = reader.frames(since_ns, None if end is None else nanoseconds("end", end))
    order = np.argsort(frames.timestamp_ns, kind="stable")
    found = []
    for series in chosen:
        values = frames.values[order, series.column]
        present = ~absent(values)
        found.append(TimeSeries(series.labels, frames.timestamp_ns[order][present] / 1e9, values[present]))
    return found


def read_time_series(
    ring: str, name: str, start: float | None = None, end: float | None = None,
    labels: Mapping[str, str] | None = None, *, namespace: str = "default", owner: int | None = None,
) -> list[TimeSeries]:  # fmt: skip
    """The samples of a metric in the ring of that name, read from any process; see :func:`time_series`.

    ``owner``: the user id whose ring is trusted, by default our own. Raises RingMissing, RingForeign and RingCorrupt.
    """
    from shm.ring.reader import RingReader

    with RingReader(namespace, ring, owner=owner) as reader:
        return time_series(reader, name, start, end, labels)


def names_of(metric: Metric) -> set[str]:
    """The names that a caller may use for a metric: a counter's with and without ``_total``."""
    return {metric.name, metric.family, *((f"{metric.family}_total",) if metric.type == "counter" else ())}


def did_you_mean(name: str, known: list[str]) -> str:
    """The remedy in an error about an unknown name: the closest of the ``known`` names, or a list of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(sorted(known)[:20]) or 'none yet'}"


def nanoseconds(what: str, seconds: float) -> int:
    """``seconds`` in nanoseconds. Raises MetricError, naming ``what``, unless it is a finite number."""
    if not (isinstance(seconds, int | float) and math.isfinite(seconds) and abs(seconds) < 9e9):
        raise MetricError(f"{what} is {seconds!r}; give seconds, as a finite number")
    return round(seconds * 1e9)
