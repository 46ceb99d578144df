"""What is appended to the three rings of ``fuzz``, and the lines that /metrics must show of it."""

from __future__ import annotations

from typing import Final

from shm.metric import Metric
from shm.ring.writer import RingWriter
from tests.rings import INTERVAL_NS, SECOND_NS

# Sorted by name, the victim is in the middle: the first ring by name wins conflicts, the last one loses them.
EAST, VICTIM, WEST = "east", "middle", "west"
CAPACITY: Final = 12
FRAMES: Final = 20  # lapped once
COLUMNS: Final = 8
_BEGAN_NS: Final = 1_700_000_000 * SECOND_NS
_SHARED: Final = (
    Metric("level", "gauge", "A level.", "", ("source",)),
    Metric("events_total", "counter", "Events.", "events", ("source",)),
    Metric("latency", "histogram", "A latency.", "milliseconds", ("source",), (1.0, 2.5)),
)
_WIDTH: Final = 16  # room for what a forged catalog adds


def metrics_of(source: str) -> tuple[Metric, ...]:
    return (*_SHARED, Metric(f"{source}_own", "gauge", "Of one ring alone.", "", ("place",)))


def value(source: str, sequence: int, column: int) -> float:
    """What is appended in that place: a function of source, sequence and column."""
    return float(sequence * 4096 + column * 16 + 1 + (EAST, VICTIM, WEST).index(source))


def stamp_ns(sequence: int) -> int:
    return _BEGAN_NS + sequence * INTERVAL_NS


def row(source: str, sequence: int, columns: int) -> list[float]:
    return [value(source, sequence, column) for column in range(columns)]


def columns_at(sequence: int) -> int:
    """The last series is added before the last frame."""
    return COLUMNS if sequence == FRAMES else COLUMNS - 1


def lines(source: str, sequence: int) -> frozenset[bytes]:
    """The sample lines of that frame."""
    names = [f'level{{source="{source}"}}', f'events_total{{source="{source}"}}', None]
    names += [f'latency_bucket{{source="{source}",le="{bound}"}}' for bound in ("1.0", "2.5", "+Inf")]
    names += [f'latency_sum{{source="{source}"}}', f'{source}_own{{place="here"}}']
    text = [f"{name} {value(source, sequence, column)!r}" for column, name in enumerate(names) if name]
    text.append(f'latency_count{{source="{source}"}} {value(source, sequence, 5)!r}')
    if columns_at(sequence) < COLUMNS:
        text = [line for line in text if not line.startswith(f"{source}_own")]
    return frozenset(line.encode() for line in text)


def open_writer(namespace: str, source: str, capacity: int = CAPACITY) -> RingWriter:
    """A writer with all series but the last; resumes what is there."""
    writer = RingWriter(namespace, source, interval_ns=INTERVAL_NS, capacity=capacity, width=_WIDTH)
    if writer.head == 0:
        for metric in metrics_of(source)[:3]:
            writer.add_series(metric, (source,))
    return writer


def fill(writer: RingWriter, source: str, frames: int) -> None:
    for sequence in range(writer.head + 1, writer.head + 1 + frames):
        writer.append(row(source, sequence, columns_at(sequence)), stamp_ns(sequence), sequence * INTERVAL_NS)
