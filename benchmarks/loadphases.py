"""The plan of the load test, and the measurements of one daemon: idle, scraped, besieged.

There is one daemon for each pair of a number of series and an interval, and its phases follow one another. Between the
first two, one client requests each page a few times, and the exporter's CPU is measured.
"""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks import footprint, series
from benchmarks.besiege import siege
from benchmarks.client import Client
from benchmarks.footprint import MIB, Reading
from benchmarks.harness import Missing, exact_cpu_seconds, program
from benchmarks.supervised import Supervised, supervised
from collector.metrics import DURATION, ERRORS, TICKS_MISSED
from shm.ring.reader import RingReader
from tests.daemon import SOURCES
from tests.programs import wait_until
from tests.prometheus import scraping

OWN_SERIES: Final = 15  # up to here the daemon as it comes; beyond, a source of so many series beside its four
IDLE, SCRAPED, BESIEGED = STATES = ("idle", "scraped", "besieged")
PAGES: Final = ("/metrics", "/metrics/aggregated", "/metrics/aggregated?window=24h", "/stats", "/health")
_SHARES: Final = (0.4, 0.4, 0.2)  # of a pair's time, by state
_IDLE_INTERVALS: Final = 4  # at least: what one collection costs varies by half from one to the next
_PAIR_SECONDS: Final = 15.0  # to start a daemon, ask for its pages, and stop it
_LONG_SECONDS: Final = 600.0
_PAGE_SECONDS: Final = 0.4
_MOST_REQUESTS: Final = 200
_SCRAPE_SECONDS: Final = 15.0
_SIEGE_START_SECONDS: Final = 1.0  # until all scrapers ask
_SETTLE_SECONDS: Final = 1.0
_CAPACITY: Final = 5760


@dataclass(frozen=True, slots=True)
class Pair:
    """One daemon: its number of series, its interval, and the duration of each of its phases."""

    series: int
    interval_seconds: float
    seconds: tuple[float, ...] = ()


@dataclass(slots=True)
class Usage:
    """Resources of one process in one phase."""

    cpu_percent: float
    pss_bytes: int
    ring_bytes: int
    threads: int
    files: int
    switches_per_second: float
    faults_per_second: float
    slope_mib_per_hour: float  # of what it has allocated, without files and rings


@dataclass(slots=True)
class Phase:
    """Resources of one daemon in one state.

    ``collections``: the seconds of each, by source. ``intervals_cpu_percent``: of all processes, in each interval.
    """

    series: int
    interval_seconds: float
    state: str
    seconds: float
    usage: dict[str, Usage]
    collections: dict[str, list[float]]
    intervals_cpu_percent: list[float]
    ticks_missed: int
    errors: int
    scraped_every: float = 0.0
    answers_per_second: float = 0.0
    statuses: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class PageCost:
    """Cost of one page for one client on one connection."""

    seconds: list[float]
    cpu_seconds: float  # of the exporter, for one answer
    size_bytes: int


@dataclass(slots=True)
class Found:
    """All results of one pair."""

    pair: Pair
    phases: list[Phase] = field(default_factory=list)
    pages: dict[str, PageCost] = field(default_factory=dict)
    ring_bytes: dict[str, int] = field(default_factory=dict)
    restart_seconds: list[float] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)


def plan(seconds: float, counts: Sequence[int], intervals: Sequence[float], *, full: bool) -> list[Pair]:
    """The pairs, and how long each takes, so that all of it takes ``seconds``, or a minute more for idling.

    Not ``full``: the first number of series at every interval, and the others at the second interval alone.
    """
    chosen = [
        (count, interval)
        for count in counts
        for place, interval in enumerate(intervals)
        if full or count == counts[0] or place == min(1, len(intervals) - 1)
    ]
    first = 4.0 if seconds < _LONG_SECONDS else 12.0  # the daemon as it comes is measured longest, also for its slope
    weights = [first, *[1.0] * (len(chosen) - 1)]
    left = max(seconds - _PAIR_SECONDS * len(chosen), 2.0 * sum(weights))
    pairs = []
    for (count, interval), weight in zip(chosen, weights, strict=True):
        own = left * weight / sum(weights)
        idle, *busy = (share * own for share in _SHARES)
        # Whole intervals, so that idling costs neither a tick too many nor one too few.
        pairs.append(Pair(count, interval, (max(idle // interval, _IDLE_INTERVALS) * interval, *busy)))
    return pairs


def measure(pair: Pair, restarts: int = 0) -> Found:
    """Measure all phases of one daemon, then that many restarts of its exporter."""
    found = Found(pair)
    more = pair.series > OWN_SERIES
    sources = {series.NAME: series.table(pair.series)} if more else {}
    with supervised(pair.interval_seconds, sources=sources, capacity=_CAPACITY) as run:
        found.missing += run.missing
        series.fill_built_in(run.daemon.namespace, pair.interval_seconds, _CAPACITY)
        if more:
            series.fill(run.daemon.namespace, pair.series, pair.interval_seconds, _CAPACITY)
        with run.daemon:
            _phases(run, found)
            found.restart_seconds = [_restart(run) for _ in range(restarts)]
    return found


def _settle(run: Supervised) -> None:
    """Wait until supervisord reports all programs as RUNNING, and the first frames have been taken."""
    wait_until(lambda: set(run.daemon.states().values()) == {"RUNNING"}, 20, "all programs RUNNING")
    time.sleep(_SETTLE_SECONDS)


def _restart(run: Supervised) -> float:
    """Seconds from SIGKILL of the exporter until it answers again; supervisord starts it."""
    wait_until(run.daemon.answers, 30, "an exporter to end")
    _settle(run)
    begun = time.monotonic()
    os.kill(run.daemon.pid("exporter"), signal.SIGKILL)
    wait_until(run.daemon.answers, 30, "the exporter back")
    return time.monotonic() - begun


def _phases(run: Supervised, found: Found) -> None:
    pair, daemon = found.pair, run.daemon
    idle, scraped, besieged = pair.seconds
    every = min(_SCRAPE_SECONDS, max(1.0, scraped / 4))
    daemon.wait_until_collected(*SOURCES, *run.extra)
    _settle(run)
    # The second tick is half an interval to one and a half after the first: from here on each interval has one.
    time.sleep(pair.interval_seconds / 2)
    found.phases.append(_phase(run, pair, IDLE, idle))
    found.pages = {page: _page(run, page) for page in PAGES}
    for source, reader in run.readers():
        found.ring_bytes[source] = reader.header.segment_bytes
    try:
        prometheus = program("prometheus", "apt-get install prometheus")
    except Missing as missing:
        found.missing.append(missing)
    else:
        with scraping(daemon.directory, daemon.port, round(1000 * every), prometheus):
            phase = _phase(run, pair, SCRAPED, scraped)
            phase.scraped_every = every
            found.phases.append(phase)
    with siege(daemon.port) as scrapers:
        begun = time.monotonic()
        time.sleep(_SIEGE_START_SECONDS)
        phase = _phase(run, pair, BESIEGED, besieged)
        scrapers.stop()
        phase.statuses = scrapers.statuses
        phase.answers_per_second = scrapers.answers / (time.monotonic() - begun)
        found.phases.append(phase)


def _phase(run: Supervised, pair: Pair, state: str, seconds: float) -> Phase:
    processes = run.processes()
    heads = _heads(run)
    missed, errors = run.total(TICKS_MISSED), run.total(ERRORS)
    first = {name: footprint.read(process) for name, process in processes.items()}
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}
    begun = time.monotonic()
    step = max(1.0, seconds / 100)
    used = [(begun, sum(one.cpu_seconds for one in first.values()))]  # at the end of each interval
    while (left := begun + seconds - time.monotonic()) > 0:
        time.sleep(min(step, left))
        if time.monotonic() - begun >= len(used) * pair.interval_seconds:
            used.append((time.monotonic(), sum(exact_cpu_seconds(process.pid) for process in processes.values())))
        for name, process in processes.items():
            samples[name].append((time.monotonic(), float(footprint.anonymous_bytes(process.pid))))
    last = {name: footprint.read(process) for name, process in processes.items()}
    return Phase(
        series=pair.series,
        interval_seconds=pair.interval_seconds,
        state=state,
        seconds=seconds,
        usage={name: _usage(first[name], last[name], samples[name]) for name in processes},
        collections=_collections(run, heads),
        intervals_cpu_percent=[
            100 * (cpu - cpu_before) / (at - before) for (before, cpu_before), (at, cpu) in itertools.pairwise(used)
        ],
        ticks_missed=run.total(TICKS_MISSED) - missed,
        errors=run.total(ERRORS) - errors,
    )


def _usage(first: Reading, last: Reading, samples: Sequence[tuple[float, float]]) -> Usage:
    elapsed = last.at - first.at
    settled = samples[len(samples) // 4 :]  # what a state takes at its beginning is no growth
    return Usage(
        cpu_percent=100 * (last.cpu_seconds - first.cpu_seconds) / elapsed,
        pss_bytes=last.pss_bytes,
        ring_bytes=last.ring_bytes,
        threads=last.threads,
        files=last.files,
        switches_per_second=(last.switches - first.switches) / elapsed,
        faults_per_second=(last.faults - first.faults) / elapsed,
        slope_mib_per_hour=3600 * footprint.slope(settled) / MIB,
    )


def _page(run: Supervised, page: str) -> PageCost:
    pid = run.daemon.pid("exporter")
    seconds: list[float] = []
    with Client(run.daemon.port) as client:
        size = len(client.get(page))
        before, begun = exact_cpu_seconds(pid), time.monotonic()
        while time.monotonic() - begun < _PAGE_SECONDS and len(seconds) < _MOST_REQUESTS:
            asked = time.perf_counter()
            size = len(client.get(page))
            seconds.append(time.perf_counter() - asked)
        return PageCost(seconds, (exact_cpu_seconds(pid) - before) / len(seconds), size)


# ---- what the rings tell -------------------------------------------------------------------------------------------


def _heads(run: Supervised) -> dict[str, int]:
    return {source: reader.newest_sequence() for source, reader in run.readers()}


def _collections(run: Supervised, heads: dict[str, int]) -> dict[str, list[float]]:
    """Durations of all collections since those heads, by source."""
    found: dict[str, list[float]] = {}
    for source, reader in run.readers():
        column = _column(reader, DURATION.name)
        frames = [reader.frame(sequence) for sequence in range(heads[source] + 1, reader.newest_sequence() + 1)]
        values = [frame.value(column) for frame in frames if frame is not None]
        found[source] = [value for value in values if value is not None]
    return found


def _column(reader: RingReader, metric: str) -> int:
    return next(series.column for series in reader.series if series.metric.name == metric)
