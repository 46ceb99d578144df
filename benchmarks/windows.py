"""P4, P5: cost of a page of seven statistics over 1,000 series, compared with other programs on the same samples.

The results of all programs are compared first, then timed.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, Literal, Protocol

import numpy as np

from benchmarks import day
from benchmarks.day import FRAMES, INTERVAL_SECONDS, STATS, WINDOWS, Floats, Samples, Served
from benchmarks.harness import Answer, Chart, Effort, Missing, Target
from benchmarks.meter import Meter, cpu, is_cpu
from benchmarks.peers import duckdb, prometheus, victoria_metrics

_US: Final = "fogmetrics"
_AGAIN: Final = "fogmetrics, after one more frame"
_NEW_RING: Final = "fogmetrics, a ring it never saw"
_PROMETHEUS: Final = "Prometheus, seven queries in sequence"
_DAY: Final = "24h"
_TURNS: Final = {"5m": 15, "1h": 9, "24h": 3}
# How the percentile of n sorted samples is defined, in numpy's words: ours is the sample at ceil(p · (n − 1)), counted
# from 0; Prometheus and VictoriaMetrics draw a line between the two samples beside p · (n − 1); DuckDB's quantile_disc
# is the first sample with a share p of all at or below it.
_METHODS: Final[dict[str, Literal["higher", "linear", "inverted_cdf"]]] = {
    _US: "higher",
    "Prometheus": "linear",
    "VictoriaMetrics": "linear",
    "DuckDB": "inverted_cdf",
}
_SAME: Final = 1e-12  # sums are added up in different orders, and may differ in the last digits
_NOTES: Final = (
    "One ring of 1,000 gauges at 15 s, random walks with two decimals. Before each page of fogmetrics, the ring is "
    "filled with new values: for `5m` and `1h`, the frames in the window (20 and 240) are new to the exporter, for "
    "`24h` all 5,760. The other programs are asked for the same samples again and again, from memory, which is to "
    "their advantage.",
    f"“{_NEW_RING}”: a newly published ring, for which the exporter also lays out the 7,000 lines. “{_AGAIN}”: the "
    "same page one frame later, as for a Prometheus server that scrapes every 15 s.",
    "Wall time is measured by one client, from the request to the last byte, over kept connections, without "
    "compression. CPU is that of the process that answers, read before and after the request. DuckDB has no server: "
    "it runs in the client's process with two threads and returns arrays, without HTTP or text.",
    "Before the measurement, all statistics of all series are compared with numpy's over each window. Averages, "
    "sums, minima and maxima agree. The percentiles have three definitions, whose results differ by less than the "
    "distance of two neighbouring samples: fogmetrics takes the sample at ⌈p(n − 1)⌉ of n sorted samples, counted "
    "from 0; Prometheus and VictoriaMetrics interpolate between the two samples around p(n − 1); DuckDB's "
    "`quantile_disc` takes the first sample with at least a share p of all samples at or below it. Each is exact by "
    "its definition.",
    "Prometheus 2 includes samples at both ends of a window: at the instant of a sample, 5 minutes at 15 s are 21 "
    "samples. Here the instant is one second after the newest sample, and all programs count 20.",
    "Prometheus has the day in one block, backfilled by promtool. VictoriaMetrics has merged it, and is told not to "
    "answer from its cache of results (`nocache=1`).",
)


class Peer(Protocol):
    """Another program with the same samples. ``forms``: the ways to query all seven statistics."""

    pid: int

    def forms(self, window: str) -> Mapping[str, Callable[[], object]]: ...

    def statistics(self, window: str) -> dict[str, Floats]: ...


def ask(effort: Effort) -> Answer:
    answer = Answer("A page of statistics")
    values = day.walks()
    newest = int(time.time())
    samples = Samples(values, newest - INTERVAL_SECONDS * np.arange(FRAMES - 1, -1, -1, dtype=np.int64))
    with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        peers = _peers(Path(directory), samples, stack, answer)
        served = stack.enter_context(day.serving(values))
        served.fill(values)
        for window in WINDOWS:
            check(_US, served.statistics(window), samples, window)
        for name, peer in peers.items():
            for window in WINDOWS:
                check(name, peer.statistics(window), samples, window)
        for window in WINDOWS:
            _measure(window, served, peers, effort, answer)
    _add_targets(answer)
    answer.charts.append(_chart(answer))
    answer.notes += _NOTES
    return answer


def _peers(directory: Path, samples: Samples, stack: contextlib.ExitStack, answer: Answer) -> dict[str, Peer]:
    """The installed peers, with the samples, while the stack is open."""
    openings: dict[str, Callable[[], contextlib.AbstractContextManager[Peer]]] = {
        "Prometheus": lambda: prometheus.holding(directory, samples),
        "VictoriaMetrics": lambda: victoria_metrics.holding(directory, samples),
        "DuckDB": lambda: duckdb.holding(samples),
    }
    peers = {}
    for name, holding in openings.items():
        try:
            peers[name] = stack.enter_context(holding())
        except Missing as missing:
            answer.missing.append(missing)
    return peers


def check(name: str, found: Mapping[str, Floats], samples: Samples, window: str) -> None:
    """Fail unless these statistics, shape (series,) each, equal those of the samples in the window.

    Minima, maxima and percentiles of fogmetrics are samples, and exact; sums and interpolations may differ in the last
    digits.
    """
    values = samples.last(WINDOWS[window])
    right = {
        "avg": values.mean(axis=0),
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "sum": values.sum(axis=0),
    }
    percentiles = (0.5, 0.95, 0.99)
    right |= zip(STATS[-3:], np.quantile(values, percentiles, axis=0, method=_METHODS[name]), strict=True)
    for stat, expected in right.items():
        exact = stat in ("min", "max") or (stat in STATS[-3:] and _METHODS[name] != "linear")
        wrong = np.count_nonzero(~np.isclose(found[stat], expected, rtol=0 if exact else _SAME, atol=0))
        assert not wrong, f"{name} has {stat} over {window} wrong for {wrong} series"


def _measure(window: str, served: Served, peers: Mapping[str, Peer], effort: Effort, answer: Answer) -> None:
    """Time the page of that window, and every equivalent query of the peers."""
    meter = Meter()

    frames = WINDOWS[window]

    def add(name: str, frames: int, prepare: Callable[[], None]) -> None:
        meter.add(
            f"{window}: {name}", served.pid, lambda: served.page(window), prepare=prepare,
            verify=lambda page: day.assert_covers(page, frames),
        )  # fmt: skip

    if window == _DAY:
        add(_NEW_RING, frames, served.begin)
    add(_US, frames, lambda: served.renew(window))
    # No time goes by for a frame to leave the window, but the ring of a day has no room for more.
    add(_AGAIN, min(frames + 1, FRAMES), served.one_more)
    for name, peer in peers.items():
        for how, form in peer.forms(window).items():
            meter.add(f"{window}: {name}, {how}", peer.pid, form)
    found = meter.run(effort.turns(_TURNS[window]))
    # The table is long enough: what the peers take of their CPU, it tells of the day alone.
    answer.measured += [
        one for one in found if window == _DAY or not is_cpu(one) or one.what.startswith(f"{window}: {_US}")
    ]


def _add_targets(answer: Answer) -> None:
    def compare(key: str, window: str, peer: str, says: str, least: float) -> None:
        """Add a target: how many times faster our first page is than the peer's fastest query."""
        found = [one.median for one in answer.measured if one.what.startswith(f"{window}: {peer}") and not is_cpu(one)]
        if found:
            ratio = min(found) / answer.median(f"{window}: {_US}")
            answer.targets.append(Target(key, f"{window}: faster than {says}", ratio, "least", least))

    compare("P4", "5m", _PROMETHEUS, "seven Prometheus queries in sequence", 20)
    compare("P4", "1h", _PROMETHEUS, "seven Prometheus queries in sequence", 100)
    compare("P4", "24h", _PROMETHEUS, "seven Prometheus queries in sequence", 100)
    compare("P4", "24h", "VictoriaMetrics", "VictoriaMetrics asked the cheapest way", 10)
    compare("P4", "24h", "DuckDB", "DuckDB asked the fastest way", 2)
    first, again = f"{_DAY}: {_US}", f"{_DAY}: {_AGAIN}"
    ratio = answer.median(first) / answer.median(again)
    answer.targets.append(Target("P5", "24h: after one more frame, faster than the first page", ratio, "least", 3))
    ratio = answer.median(cpu(first)) / answer.median(cpu(again))
    answer.targets.append(Target("P5", "24h: the same in CPU", ratio, "least", 3))


def _chart(answer: Answer) -> Chart:
    """The chart of our first page and of each peer's fastest query, by window."""
    lines: dict[str, dict[float, float]] = {}
    for one in answer.measured:
        window, _, name = one.what.partition(": ")
        if not is_cpu(one) and name not in (_AGAIN, _NEW_RING):
            program, _, way = name.partition(", ")
            line = lines.setdefault(f"{program}, the fastest way" if way else program, {})
            minutes = WINDOWS[window] * INTERVAL_SECONDS / 60
            line[minutes] = min(one.median, line.get(minutes, one.median))
    points = {name: list(line.items()) for name, line in lines.items()}
    return Chart("windows", "Seven statistics of 1,000 series", "window, minutes", "milliseconds", points)
