"""P11: growth of the cost of a page with the number of series, the window, and the number of concurrent scrapers.

At each point, a real exporter is scraped over loopback, with new values each time; the cost is its CPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

from benchmarks.harness import Answer, Chart, Effort, Measured, Target, in_turns
from benchmarks.served import Cost, Rings, Scrapers, scraping
from shm.ring.windows import GUARD_SLOTS
from shm.ring.writer import DEFAULT_CAPACITY

_SERIES = (100, 1_000, 10_000, 100_000)
_WINDOWS = (5, 30, 120, 480, 1440)  # minutes
_SCRAPERS = (1, 4, 16, 64)
_METRICS, _AGGREGATED = "/metrics", "/metrics/aggregated"
_ONE_NEW, _ALL_NEW = "one frame is new", "every frame is new"
_MANY = 1_000  # series where it is not they that grow
_SHORT = 64  # slots where the window is five minutes: a hundred thousand series take 50 MiB then
_TURNS = 5
# So that a small page is asked for often enough to be measured, and a large one not for minutes.
_MOST_REQUESTS, _SERIES_A_TURN = 50, 200_000
_LIMIT_MS = 60
_LINEAR = 1.1

Line = dict[int, Sequence[Cost]]


def ask(effort: Effort) -> Answer:
    answer = Answer("Growth")
    by_series = _by_series(effort)
    _add(answer, "series", "series", "series", by_series)
    _add(answer, "window", "minutes", "minutes of the window", _by_window(effort))
    _add(answer, "scrapers", "at once", "scrapers at once", _by_scrapers(effort))
    most = max(_SERIES)
    seen = Measured(f"`{_METRICS}`, {most:,} series, until it is read", "ms", _ms(by_series[_METRICS][most], "seconds"))
    answer.measured.append(seen)
    answer.targets.insert(0, Target("P11", seen.what, seen.median, "most", _LIMIT_MS, "ms"))
    answer.notes = [
        "The cost is the exporter's CPU for one page; for several scrapers, for one page to each of them, all "
        "requested at once.",
        "Unless stated otherwise, one frame of every source is new for each page. If every frame is new, the "
        "exporter must also read the timestamps of the frames before the window, which determines the cost of the "
        "shortest window.",
        f"Up to {_MANY:,} series are in one source; beyond that, each source has a thousand. Windows and scrapers are "
        f"measured with {_MANY:,} series, and, where the window is not varied, it is 5 minutes.",
        f"For many scrapers of `{_AGGREGATED}`, `max_jobs` was {max(_SCRAPERS)}; with the default, the exporter "
        "refuses most of so many requests.",
        "A growth of 1 means that the cost is proportional to the variable; 0.1 more is allowed for the spread. "
        "Sorting n samples takes n · log n, which is more.",
    ]
    return answer


def _by_series(effort: Effort) -> dict[str, Line]:
    """Measure the pages at every number of series, with a window of five minutes."""
    lines: dict[str, Line] = {_METRICS: {}, _AGGREGATED: {}}
    for series in _SERIES:
        with Rings(series, _SHORT) as rings, scraping(rings.namespace) as scrapers:
            rings.fill(_SHORT)
            requests = effort.many(max(1, min(_MOST_REQUESTS, _SERIES_A_TURN // series)))
            jobs = {page: _job(scrapers, page, requests, rings.append) for page in lines}
            for page, costs in in_turns(jobs, effort.turns(_TURNS)).items():
                lines[page][series] = costs
    return lines


def _by_window(effort: Effort) -> dict[str, Line]:
    """Measure the page of statistics over every window, with an entirely new history or one new frame."""
    lines: dict[str, Line] = {_ONE_NEW: {}, _ALL_NEW: {}}
    # With the slots that a window leaves out at the old end, a whole day can be read.
    with Rings(_MANY, DEFAULT_CAPACITY + GUARD_SLOTS) as rings, scraping(rings.namespace) as scrapers:
        rings.fill(DEFAULT_CAPACITY)
        for minutes in _WINDOWS:
            page = f"{_AGGREGATED}?window={minutes}m"
            jobs = {
                _ONE_NEW: _job(scrapers, page, effort.many(5), rings.append),
                _ALL_NEW: _job(scrapers, page, 1, lambda: rings.fill(DEFAULT_CAPACITY)),
            }
            for name, costs in in_turns(jobs, effort.turns(_TURNS)).items():
                lines[name][minutes] = costs
    return lines


def _by_scrapers(effort: Effort) -> dict[str, Line]:
    """Measure both pages for every number of concurrent scrapers."""
    lines: dict[str, Line] = {_METRICS: {}, _AGGREGATED: {}}
    with Rings(_MANY, _SHORT) as rings:
        rings.fill(_SHORT)
        for number in _SCRAPERS:
            with scraping(rings.namespace, f"max_jobs = {max(_SCRAPERS)}", number) as scrapers:
                jobs = {page: _job(scrapers, page, effort.many(10), rings.append) for page in lines}
                for page, costs in in_turns(jobs, effort.turns(_TURNS)).items():
                    lines[page][number] = costs
    return lines


def _job(scrapers: Scrapers, page: str, requests: int, before: Callable[[], None]) -> Callable[[], Cost]:
    return lambda: scrapers.cost(page, requests, before)


def _add(answer: Answer, name: str, unit: str, axis: str, lines: Mapping[str, Line]) -> None:
    """Add the chart of these lines, their figures, and the target for their growth."""
    drawn: dict[str, list[tuple[float, float]]] = {}
    for line, costs_at in lines.items():
        shown = f"`{line}`" if line.startswith("/") else f"`{_AGGREGATED}`, {line}"
        points = drawn[line] = []
        for x, costs in costs_at.items():
            one = Measured(f"{shown}, {x:,} {unit}", "ms of CPU", _ms(costs, "cpu_seconds"))
            answer.measured.append(one)
            points.append((x, one.median))
        steepest = max((y / y0) / (x / x0) for (x0, y0), (x, y) in itertools.pairwise(points))
        answer.targets.append(Target("P11", f"{shown}: steepest step over {axis}", steepest, "most", _LINEAR))
    answer.charts.append(Chart(f"growth-{name}", f"A page's cost over {axis}", axis, "ms of the exporter's CPU", drawn))


def _ms(costs: Sequence[Cost], what: str) -> list[float]:
    return [1e3 * getattr(cost, what) for cost in costs]
