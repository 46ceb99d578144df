"""P7: effect of a besieged exporter on ticks and appends of the collectors, at ten ticks a second.

Idle and besieged turns of one daemon alternate. Lateness is computed from the rings: each frame has the time at which
its tick began, and the schedule the time at which it was due. A source of this benchmark times the appends of its
collector.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from benchmarks import timed
from benchmarks.besiege import CONNECTIONS_EACH, PAGES, siege
from benchmarks.harness import Answer, Effort, Measured, Target
from benchmarks.supervised import Supervised, supervised
from collector.loop.schedule import Schedule
from collector.metrics import TICKS_MISSED
from shm.ring.reader import Frames, RingReader
from tests.daemon import SOURCES

_INTERVAL_SECONDS: Final = 0.1
_INTERVAL_NS: Final = round(_INTERVAL_SECONDS * 1e9)
_TURNS: Final = 4
_TURN_SECONDS: Final = 8.0
_SETTLE_SECONDS: Final = 5.0
_ALL: Final = (*SOURCES, timed.NAME)
_TABLE: Final = 'class = "benchmarks.timed:TimedSource"'

Turn = tuple[int, int]  # from, to: wall clock, nanoseconds


def ask(effort: Effort) -> Answer:
    answer = Answer("Isolation")
    with supervised(_INTERVAL_SECONDS, sources={timed.NAME: _TABLE}) as found, found.daemon as daemon:
        answer.missing += found.missing
        daemon.wait_until_collected(*_ALL)
        time.sleep(_SETTLE_SECONDS)
        missed = found.total(TICKS_MISSED)
        quiet, besieged, answers = _turns(found, effort.turns(_TURNS), effort.seconds(_TURN_SECONDS))
        missed = found.total(TICKS_MISSED) - missed
        rings = {source: reader.frames() for source, reader in found.readers()}  # once it is over
        with RingReader(daemon.namespace, timed.NAME) as reader:
            column = _column(reader, timed.APPEND_SECONDS)
    for name, turns in (("idle", quiet), ("under siege", besieged)):
        late = {percent: [_late_ms(rings, turn, percent) for turn in turns] for percent in (50, 99)}
        append = {
            percent: [_append_us(rings[timed.NAME], column, turn, percent) for turn in turns] for percent in (50, 99)
        }
        answer.measured += [Measured(f"tick late, p{percent}, {name}", "ms", one) for percent, one in late.items()]
        answer.measured += [Measured(f"append, p{percent}, {name}", "µs", one) for percent, one in append.items()]
    answer.measured += [
        Measured("ticks missed, all turns", "ticks", [missed]),
        Measured("pages answered in a second of siege", "pages", answers),
    ]
    later = answer.median("tick late, p99, under siege") - answer.median("tick late, p99, idle")
    slower = answer.median("append, p99, under siege") / answer.median("append, p99, idle")
    answer.targets = [
        Target("P7", "p99 of a tick's lateness under siege, above that of idle", later, "most", 5, "ms"),
        Target("P7", "p99 of an append under siege, against that of idle", slower, "most", 2),
        Target("P7", "ticks missed, under siege and idle together", missed, "most", 0, "ticks"),
    ]
    ticks = round(len(_ALL) * effort.seconds(_TURN_SECONDS) / _INTERVAL_SECONDS)
    answer.notes = [
        f"{len(_ALL)} collectors tick every {_INTERVAL_SECONDS:g} s, {ticks} ticks in a turn. The lateness of a tick "
        "is the timestamp of its frame, taken when the tick begins, minus its scheduled time. The append is timed "
        "around `RingWriter.append` in the collector of a source with 15 series.",
        f"Siege: one process per core with {CONNECTIONS_EACH} connections, each of which requests one of {len(PAGES)} "
        "pages after the other. These scrapers use the same cores, as scrapers over a network would not.",
    ]
    return answer


def _turns(found: Supervised, turns: int, seconds: float) -> tuple[list[Turn], list[Turn], list[float]]:
    """The idle turns, the besieged turns, and the answers per second of each siege."""
    quiet: list[Turn] = []
    besieged: list[Turn] = []
    answers: list[float] = []
    for _ in range(turns):
        quiet.append(_during(seconds))
        with siege(found.daemon.port) as scrapers:
            time.sleep(1.0)  # they start, which is work of another kind
            besieged.append(_during(seconds))
            scrapers.stop()
        answers.append(scrapers.answers / (seconds + 1.0))
        time.sleep(1.0)  # the exporter ends what was under way
    return quiet, besieged, answers


def _during(seconds: float) -> Turn:
    begun = time.time_ns()
    time.sleep(seconds)
    return begun, time.time_ns()


def _late_ms(rings: Mapping[str, Frames], turn: Turn, percent: float) -> float:
    """The number for all sources together."""
    late: list[float] = []
    for source, frames in rings.items():
        phase_ns = Schedule(source, _INTERVAL_NS).phase_ns
        stamps = frames.timestamp_ns[_within(frames, turn)]
        # From half an interval early to half an interval late: a sleep may end a hair early.
        half_ns = _INTERVAL_NS // 2
        late += ((stamps - phase_ns + half_ns) % _INTERVAL_NS - half_ns).tolist()
    return float(np.percentile(late, percent)) / 1e6


def _append_us(frames: Frames, column: int, turn: Turn, percent: float) -> float:
    return float(np.percentile(frames.values[_within(frames, turn), column], percent)) * 1e6


def _within(frames: Frames, turn: Turn) -> NDArray[np.bool_]:
    return (frames.timestamp_ns > turn[0]) & (frames.timestamp_ns <= turn[1])


def _column(reader: RingReader, metric: str) -> int:
    return next(series.column for series in reader.catalog.series if series.metric.name == metric)
