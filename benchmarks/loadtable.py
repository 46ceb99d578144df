"""Results of the load test and its budgets: Markdown for people, plain values for programs."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from benchmarks import report, series
from benchmarks.footprint import MIB
from benchmarks.harness import Target
from benchmarks.loadphases import BESIEGED, IDLE, OWN_SERIES, PAGES, Found, Phase
from tests.daemon import SOURCES

_LEAST_SECONDS: Final = 1.0  # an interval below it is no one's default, and CPU goes with it
_DEFAULT_SECONDS: Final = 15.0  # what idle means: at the default interval or above
_SLOPE_SECONDS: Final = 120.0  # a phase shorter than that tells nothing of growth
_HEAD: Final = (
    "series", "every, s", "state", "CPU, % of a core: collectors", "exporter", "supervisord", "PSS, MiB", "threads",
    "files", "switches/s", "faults/s", "collection, ms: median", "longest", "of `series`", "ticks missed", "errors",
    "answers/s",
)  # fmt: skip


def _budget(says: str, measured: float, limit: float, unit: str) -> Target:
    return Target("", says, measured, "most", limit, unit)


def budgets(results: Sequence[Found]) -> list[Target]:
    """The budgets of the 15 metrics, independent of other sources."""
    plain = [one for one in results if one.pair.series <= OWN_SERIES]
    calm = [phase for one in results for phase in one.phases if phase.state != BESIEGED]
    paced = [phase for phase in calm if phase.interval_seconds >= _LEAST_SECONDS]
    rested = [phase for one in plain for phase in one.phases if phase.state == IDLE]
    found: list[Target] = []
    for source in SOURCES:
        cpu = [phase.usage[source].cpu_percent for phase in paced]
        times = [statistics.median(phase.collections[source]) for phase in calm if phase.collections.get(source)]
        if cpu:
            found.append(_budget(f"CPU of `{source}`, most, from 1 s up", max(cpu), 1, "% of a core"))
        if times:
            found.append(_budget(f"a collection of `{source}`, slowest median", 1000 * max(times), 10, "ms"))
    for phase in rested:
        if phase.interval_seconds >= _DEFAULT_SECONDS:
            cpu_of_all = statistics.median(phase.intervals_cpu_percent)
            found.append(_budget("CPU of the idle daemon, median interval", cpu_of_all, 0.1, "% of a core"))
    for page in PAGES[1:3]:
        costs = [one.pages[page] for one in plain if page in one.pages]
        if costs:
            # At one request a second the CPU seconds of one are the share of a core.
            share = 100 * max(cost.cpu_seconds for cost in costs)
            taken = 1000 * max(statistics.median(cost.seconds) for cost in costs)
            found.append(_budget(f"`{page}` once a second, CPU", share, 5, "% of a core"))
            found.append(_budget(f"`{page}`, slowest median", taken, 50, "ms"))
    if plain:
        own = sum(plain[0].ring_bytes[source] for source in SOURCES)
        found.append(_budget("rings of the 15 metrics, 24 h at 15 s", own / 1e6, 8.6, "MB"))
    for one in results:
        if series.NAME in one.ring_bytes:
            each = one.ring_bytes[series.NAME] / one.pair.series / 1000
            found.append(_budget(f"a further metric's share of its ring, of {one.pair.series:,}", each, 576, "KB"))
    return found


def slopes(results: Sequence[Found]) -> list[tuple[str, float]]:
    """(phase, MiB per hour) of sufficiently long phases: growth of the memory of all processes, without rings."""
    return [
        (
            f"{phase.series:,} series, every {phase.interval_seconds:g} s, {phase.state}, {phase.seconds:.0f} s",
            sum(usage.slope_mib_per_hour for usage in phase.usage.values()),
        )
        for one in results
        for phase in one.phases
        if phase.seconds >= _SLOPE_SECONDS
    ]


def text(results: Sequence[Found]) -> str:
    """All results as Markdown."""
    blocks = [report.rows(_HEAD, (_phase(phase) for one in results for phase in one.phases))]
    kept = (report.target(one)[1:] for one in budgets(results))
    blocks.append(report.rows(("budget", "limit", "measured", "kept"), kept))
    if results:
        blocks.append(_processes(results[0].phases[0]))
    pages = (_page(one, page) for one in results for page in one.pages)
    blocks.append(
        report.rows(("page", "series", "every, s", "median, ms", "p99, ms", "CPU of the exporter, ms", "KiB"), pages)
    )
    if found := slopes(results):
        rows = ((phase, f"{slope:+.2f}") for phase, slope in found)
        blocks.append(report.rows(("memory that was allocated, least squares", "MiB an hour"), rows))
    if answers := _answers(results):
        blocks.append(f"Answers to the sieges: {answers}.")
    restarts = [seconds for one in results for seconds in one.restart_seconds]
    if restarts:
        said = (
            f"The exporter answers again {statistics.median(restarts):.1f} s after SIGKILL (median of {len(restarts)})."
        )
        blocks.append(said)
    missing = {one.what: one.how for found in results for one in found.missing}
    if missing:
        blocks.append("Missing on this machine: " + "; ".join(f"{what} ({how})" for what, how in missing.items()) + ".")
    return "\n\n".join(blocks) + "\n"


def plain(results: Sequence[Found]) -> dict[str, Any]:
    """All results as plain values, with the usage of each process in each phase."""
    return {
        "machine": report.machine(),
        "budgets": [dataclasses.asdict(one) | {"kept": one.met} for one in budgets(results)],
        "slopes_mib_per_hour": dict(slopes(results)),
        "daemons": [
            {
                "phases": [dataclasses.asdict(phase) for phase in one.phases],
                "pages": {page: dataclasses.asdict(cost) for page, cost in one.pages.items()},
                "ring_bytes": one.ring_bytes,
                "restart_seconds": one.restart_seconds,
                "missing": [str(missing) for missing in one.missing],
            }
            for one in results
        ],
    }


def _phase(phase: Phase) -> tuple[str, ...]:
    usage = phase.usage
    collectors = sum(one.cpu_percent for name, one in usage.items() if name not in ("exporter", "supervisord"))
    own = [seconds for source in SOURCES for seconds in phase.collections.get(source, [])]
    medians = [statistics.median(phase.collections[source]) for source in SOURCES if phase.collections.get(source)]
    further = phase.collections.get(series.NAME, [])
    state = f"{phase.state} every {phase.scraped_every:.2g} s" if phase.scraped_every else phase.state
    return (
        f"{phase.series:,}",
        f"{phase.interval_seconds:g}",
        f"{state}, {phase.seconds:.0f} s",
        f"{collectors:.3f}",
        f"{usage['exporter'].cpu_percent:.3f}",
        f"{usage['supervisord'].cpu_percent:.3f}",
        f"{sum(one.pss_bytes for one in usage.values()) / MIB:.0f}",
        str(sum(one.threads for one in usage.values())),
        str(sum(one.files for one in usage.values())),
        f"{sum(one.switches_per_second for one in usage.values()):.0f}",
        f"{sum(one.faults_per_second for one in usage.values()):.0f}",
        f"{1000 * max(medians):.1f}" if medians else "",
        f"{1000 * max(own):.1f}" if own else "",
        f"{1000 * statistics.median(further):.1f}" if further else "",
        str(phase.ticks_missed),
        str(phase.errors),
        f"{phase.answers_per_second:.0f}" if phase.state == BESIEGED else "",
    )


def _answers(results: Sequence[Found]) -> str:
    """The number of each kind."""
    total = sum((Counter(phase.statuses) for one in results for phase in one.phases), Counter[str]())
    return ", ".join(f"{count:,} × {status}" for status, count in total.most_common())


def _processes(phase: Phase) -> str:
    head = (
        f"process, {phase.state}", "CPU, % of a core", "PSS, MiB", "of it rings", "threads", "files", "switches/s",
        "faults/s", "collection, ms",
    )  # fmt: skip
    rows = []
    for name, one in phase.usage.items():
        times = phase.collections.get(name, [])
        rows.append(
            (
                name,
                f"{one.cpu_percent:.3f}",
                f"{one.pss_bytes / MIB:.1f}",
                f"{one.ring_bytes / MIB:.1f}",
                str(one.threads),
                str(one.files),
                f"{one.switches_per_second:.1f}",
                f"{one.faults_per_second:.1f}",
                f"{1000 * statistics.median(times):.1f}" if times else "",
            )
        )
    return report.rows(head, rows)


def _page(one: Found, page: str) -> tuple[str, ...]:
    cost = one.pages[page]
    p99 = sorted(cost.seconds)[round(0.99 * (len(cost.seconds) - 1))]
    return (
        f"`{page}`",
        f"{one.pair.series:,}",
        f"{one.pair.interval_seconds:g}",
        f"{1000 * statistics.median(cost.seconds):.2f}",
        f"{1000 * p99:.2f}",
        f"{1000 * cost.cpu_seconds:.2f}",
        f"{cost.size_bytes / 1024:.0f}",
    )
