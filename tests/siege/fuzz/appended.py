"""What was appended to the rings of :mod:`tests.siege.fuzz.besieged`, and how a page shows it: the oracle's own words."""

from __future__ import annotations

import math
from typing import Final

from shm.metric import Metric
from shm.ring.writer import RingWriter
from tests.rings import INTERVAL_NS, SECOND_NS

# Sorted by name, the victim is in the middle: the first ring by name wins conflicts, the last one loses them.
EAST, VICTIM, WEST = "east", "middle", "west"
CAPACITY: Final = 12
FRAMES: Final = 20  # lapped once
BEGAN_NS: Final = 1_700_000_000 * SECOND_NS
_SHARED: Final = (
    Metric("level", "gauge", "A level.", "", ("source",)),
    Metric("events_total", "counter", "Events.", "events", ("source",)),
    Metric("latency", "histogram", "A latency.", "milliseconds", ("source",), (1.0, 2.5)),
)
COLUMNS: Final = 8
_WIDTH: Final = 16  # room for what a forged catalog adds


def metrics_of(source: str) -> tuple[Metric, ...]:
    return (*_SHARED, Metric(f"{source}_own", "gauge", "Of one ring alone.", "", ("place",)))


def value(source: str, sequence: int, column: int) -> float:
    """What was appended in that place: told by source, sequence and column."""
    return float(sequence * 4096 + column * 16 + 1 + (EAST, VICTIM, WEST).index(source))


def stamp_ns(sequence: int) -> int:
    return BEGAN_NS + sequence * INTERVAL_NS


def row(source: str, sequence: int, columns: int) -> list[float]:
    return [value(source, sequence, column) for column in range(columns)]


def columns_at(sequence: int) -> int:
    """The last series was added before the last frame."""
    return COLUMNS if sequence == FRAMES else COLUMNS - 1


def lines(source: str, sequence: int) -> frozenset[bytes]:
    """The sample lines of that frame."""
    found = [f'level{{source="{source}"}}', f'events_total{{source="{source}"}}', None]
    found += [f'latency_bucket{{source="{source}",le="{bound}"}}' for bound in ("1.0", "2.5", "+Inf")]
    found += [f'latency_sum{{source="{source}"}}', f'{source}_own{{place="here"}}']
    text = [f"{name} {value(source, sequence, column)!r}" for column, name in enumerate(found) if name]
    text.append(f'latency_count{{source="{source}"}} {value(source, sequence, 5)!r}')
    if columns_at(sequence) < COLUMNS:
        text = [line for line in text if not line.startswith(f"{source}_own")]
    return frozenset(line.encode() for line in text)


def statistics(sequences: tuple[int, ...]) -> list[bytes]:
    """The victim's sample lines on /metrics/aggregated over those frames, and of what they cover."""
    found: list[str] = []
    for name, column in ((f'level{{source="{VICTIM}"', 0), (f'latency{{source="{VICTIM}"', 2),
                         (f'{VICTIM}_own{{place="here"', 7)):  # fmt: skip
        samples = [value(VICTIM, s, column) for s in sequences if column < columns_at(s)]
        if not samples:
            continue
        numbers = {"avg": sum(samples) / len(samples), "min": samples[0], "max": samples[-1], "sum": sum(samples)}
        for percent in (50, 95, 99):
            numbers[f"p{percent}"] = samples[math.ceil(percent * (len(samples) - 1) / 100)]
        found += [f'{name},stat="{stat}"}} {number!r}' for stat, number in numbers.items()]
    if len(sequences) > 1:
        increase = value(VICTIM, sequences[-1], 1) - value(VICTIM, sequences[0], 1)
        seconds = (sequences[-1] - sequences[0]) * INTERVAL_NS / 1e9
        for stat, number in (("increase", increase), ("rate", increase / seconds)):
            found.append(f'events{{source="{VICTIM}",stat="{stat}"}} {number!r}')
    coverage = {"frames": float(len(sequences))}
    if sequences:
        coverage["first_timestamp_seconds"] = stamp_ns(sequences[0]) / 1e9
        coverage["last_timestamp_seconds"] = stamp_ns(sequences[-1]) / 1e9
    found += [f'exporter_window_{name}{{source="{VICTIM}"}} {number!r}' for name, number in coverage.items()]
    return [line.encode() for line in found]


def open_writer(namespace: str, source: str) -> RingWriter:
    """A writer with all series but the last; resumes what is there."""
    writer = RingWriter(namespace, source, interval_ns=INTERVAL_NS, capacity=CAPACITY, width=_WIDTH)
    if writer.head == 0:
        for metric in metrics_of(source)[:3]:
            writer.add_series(metric, (source,))
    return writer


def fill(writer: RingWriter, source: str, frames: int) -> None:
    for sequence in range(writer.head + 1, writer.head + 1 + frames):
        writer.append(row(source, sequence, columns_at(sequence)), stamp_ns(sequence), sequence * INTERVAL_NS)
