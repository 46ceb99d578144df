"""P1 to P4: the time of an append and of the pages, by part.

py-spy samples the exporter (:mod:`benchmarks.pyspy`), and each sample counts for one part (:mod:`benchmarks.parts`).
The total CPU is measured before, without the profiler. The parts of an append are timed one by one
(:mod:`benchmarks.anatomy`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from benchmarks import anatomy, day, perf, pyspy
from benchmarks.day import WINDOWS
from benchmarks.harness import Answer, Bars, Breakdown, Effort, Measured, Missing, exact_cpu_seconds
from benchmarks.parts import REST, WAKING, shares
from benchmarks.served import Rings, Scrapers, scraping
from benchmarks.supervised import supervised

_CHANGED: Final = "`/metrics`, 10,000 series, all changed"
_UNCHANGED: Final = "`/metrics`, the default daemon, none changed"
_AGGREGATED: Final = {
    "1h": "`/metrics/aggregated`, 1,000 series, 1 h, all new",
    "24h": "`/metrics/aggregated`, 1,000 series, 24 h, all new",
}
_PAGES: Final = (_CHANGED, _UNCHANGED, *_AGGREGATED.values())
_SERIES: Final = 10_000
_CAPACITY: Final = 64  # enough: of these rings nobody asks for a window
_TURNS: Final = 5
_PERF_SECONDS: Final = 3
_NOTES: Final = (
    "An append is too short for a sampling profiler. Its statements are timed separately, each repeated in one "
    "function (`benchmarks/anatomy.py`). The remainder is calls, checks and name look-ups.",
    "py-spy samples the pages 997 times a second, while one client requests one page after the other. Each sample "
    "counts for the part of its innermost frame that belongs to one (`benchmarks/parts.py`). The time is the part's "
    "share of the CPU that a page takes without the profiler, user and system, all threads.",
    "The exporter and py-spy run on one processor, the client on the other. If py-spy ran on the other processor, "
    "its signal to stop would arrive late, and too many samples would be in system calls. A day is therefore "
    "computed by one thread in the profile, and by two when its CPU is measured.",
    "py-spy can't distinguish sleeping in epoll from working there. Such samples are left out, and the kernel's "
    "share in epoll is taken from perf, if it is installed. In windows the share is too small to show.",
    "Work of the kernel outside of system calls, such as page faults, counts for the part that caused it.",
    "The windows are those of P4, in a ring that holds no more than the window. A page of an hour takes less time "
    "than there, because fewer timestamps are searched and its frames are still in a cache.",
)


@dataclass(frozen=True, slots=True)
class Page:
    """A page that is requested repeatedly from the exporter ``pid``. ``many``: requests per turn to measure its cost.

    ``sleeps``: the page is so fast that sleeping and waking after each request is visible.
    """

    what: str
    pid: int
    ask: Callable[[], object]
    many: int
    seconds: int = 5
    sleeps: bool = False


def ask(effort: Effort) -> Answer:
    answer = Answer("Where the time goes")
    anatomy.of_an_append(effort, answer)
    try:
        pyspy.find()
        fewest = min(_pages(effort, answer))
        answer.notes.append(
            f"Each page has {fewest:,} samples or more: a share of a fifth is right to "
            f"{100 * math.sqrt(0.2 * 0.8 / fewest):.1f} points."
        )
    except Missing as missing:
        answer.missing.append(missing)
    if len(answer.breakdowns) > 1:
        answer.charts.append(_chart(answer))
    answer.notes[:0] = _NOTES
    return answer


def _pages(effort: Effort, answer: Answer) -> Iterator[int]:
    """Add the parts of each page; return the number of samples of each."""
    with Rings(_SERIES, _CAPACITY) as rings, scraping(rings.namespace) as scrapers:

        def changed() -> None:
            rings.append()
            scrapers.get("/metrics")

        yield _divide(Page(_CHANGED, scrapers.pid, changed, 200, sleeps=True), effort, answer)
    with supervised() as found, found.daemon as daemon:
        answer.missing += found.missing
        daemon.wait_until_collected()
        pid = daemon.pid("exporter")
        with contextlib.closing(Scrapers(daemon.port, pid)) as one:
            yield _divide(Page(_UNCHANGED, pid, lambda: one.get("/metrics"), 5000, 10, sleeps=True), effort, answer)
    values = day.walks()
    for window, what in _AGGREGATED.items():
        frames = WINDOWS[window]
        with day.serving(values[len(values) - frames :]) as served:

            def renewed(window: str = window, frames: int = frames, served: day.Served = served) -> None:
                served.renew(window)
                day.assert_covers(served.page(window), frames)

            yield _divide(Page(what, served.pid, renewed, 100 if window == "1h" else 5), effort, answer)


def _divide(page: Page, effort: Effort, answer: Answer) -> int:
    """Add the cost of the page and its parts; return the number of samples."""
    for _ in range(3):
        page.ask()
    many = effort.many(page.many)
    turns = [_cpu_seconds(page, many) for _ in range(effort.turns(_TURNS))]
    stacks = pyspy.record(page.pid, max(1, round(effort.seconds(page.seconds))), page.ask)
    parts = shares(stacks)
    if page.sleeps:
        try:
            waking = perf.share_in("epoll", page.pid, effort.seconds(_PERF_SECONDS), page.ask)
            parts = with_waking(parts, waking)
        except Missing as missing:
            answer.missing.append(missing)
    unit, scale = ("µs", 1e6) if min(turns) < 1e-3 else ("ms", 1e3)
    whole = Measured(page.what, unit, [one * scale for one in turns])
    answer.measured.append(whole)
    answer.breakdowns.append(Breakdown(page.what, unit, {part: share * whole.median for part, share in parts.items()}))
    return stacks.total()


def _cpu_seconds(page: Page, many: int) -> float:
    begun = exact_cpu_seconds(page.pid)
    for _ in range(many):
        page.ask()
    return (exact_cpu_seconds(page.pid) - begun) / many


def with_waking(parts: Mapping[str, float], waking: float) -> dict[str, float]:
    """The shares of the parts, scaled to include epoll with the share ``waking``."""
    found = {part: share * (1 - waking) for part, share in parts.items()} | {WAKING: waking}
    rest = found.pop(REST)
    return dict(sorted(found.items(), key=lambda item: -item[1])) | {REST: rest}


def _chart(answer: Answer) -> Bars:
    return Bars(
        "profile",
        "Where the time goes",
        "% of the CPU of one page",
        {
            one.what.replace("`", ""): {part: 100 * time / one.whole for part, time in one.parts.items()}
            for one in answer.breakdowns
            if one.what in _PAGES
        },
    )
