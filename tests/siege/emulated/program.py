"""One side of the check ``emulated``: the same program for the machine that is emulated and for the one that is not.

``python -m tests.siege.emulated.program`` takes orders as lines of JSON, ``{"do": "write", …}``, and answers each with
one line: an object, or ``{"wrong": "…"}`` where it saw a promise broken. It ends with its standard input. It imports
nothing but shm and numpy, so that a bare userland of another machine can run it.

Rows prove themselves: value = f(sequence, column), as 64 bits of any pattern, NaNs of all kinds among them, because two
machines may treat those as unlike as bytes in an order.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import platform
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shm.errors import RingForeign, WriterBusy
from shm.files import ring_path
from shm.metric import Metric
from shm.ring.frame import Frame
from shm.ring.protocol import entry_seal, frame_seal, header_seal
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter

SLOTS: Final = 8
STALE_BITS: Final = 0x7FF0_0000_0000_0002  # as docs/protocol.md says, not as the code does
GUARD: Final = 4  # the oldest slots, which a window leaves out
CREATED_NS: Final = 1_700_000_000_000_000_000  # of every segment, so that those of two machines can be compared
INTERVAL_NS: Final = 15_000_000_000
_SECOND_NS: Final = 1_000_000_000
_ODD, _ODDER = 0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F  # odd: no two sequences give a column the same value
_MASK: Final = (1 << 64) - 1
_LISTED: Final = 128  # rows up to that width are appended as lists of floats, too
_HISTOGRAM: Final = 67  # columns of a histogram with as many buckets as there may be
# Below, at and above each length at which XXH3 takes another way, up to the row of 4,096 values.
_LENGTHS: Final = (*range(300), 511, 512, 513, 1023, 1024, 1025, 2048, 32_800)


class Wrong(Exception):
    """A promise was broken."""


def require(holds: object, promise: str) -> None:
    if not holds:
        raise Wrong(promise)


# ---- rows that prove themselves --------------------------------------------------------------------------------


class Rows:
    """The rows of a ring of that many columns."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._of_column = np.arange(columns, dtype=np.uint64) * np.uint64(_ODDER)

    def given(self, sequence: int) -> int:
        """How many columns have a sample in that row; the rest is absent in every fourth."""
        return self.columns * 3 // 4 if sequence % 4 == 0 else self.columns

    def bits(self, sequence: int) -> NDArray[np.uint64]:
        row = self._of_column ^ np.uint64(sequence * _ODD & _MASK)
        row[self.given(sequence) :] = STALE_BITS
        return row

    def append(self, writer: RingWriter) -> None:
        sequence = writer.head + 1
        row = self.bits(sequence)[: self.given(sequence)].view(np.float64)
        values = row.tolist() if self.columns <= _LISTED and sequence % 3 == 0 else memoryview(row.data)
        writer.append(values, _timestamp_ns(sequence), sequence, sequence % 4)

    def check(self, frame: Frame) -> None:
        self._check(
            frame.sequence, frame.timestamp_ns, frame.monotonic_ns, frame.flags,
            np.frombuffer(frame.values.cast("B"), np.uint64),
        )  # fmt: skip
        require(frame.count == self.columns, f"frame {frame.sequence} knows {frame.count} columns of {self.columns}")

    def check_window(self, reader: RingReader) -> int:
        """Check what frames() gives; how many frames that were."""
        window = reader.frames()
        bits = window.values.view(np.uint64)
        for i, sequence in enumerate(window.sequence.tolist()):
            self._check(
                sequence, int(window.timestamp_ns[i]), int(window.monotonic_ns[i]), int(window.flags[i]), bits[i]
            )
        return len(window.sequence)

    def _check(self, sequence: int, timestamp_ns: int, monotonic_ns: int, flags: int, bits: NDArray[np.uint64]) -> None:
        got, due = (timestamp_ns, monotonic_ns, flags), (_timestamp_ns(sequence), sequence, sequence % 4)
        require(got == due, f"frame {sequence} was accepted with {got}, and {due} was appended")
        unlike = np.flatnonzero(bits[: self.columns] != self.bits(sequence))
        if len(unlike):
            column = int(unlike[0])
            raise Wrong(
                f"frame {sequence} was accepted with {int(bits[column]):#x} in column {column} of {self.columns}, "
                f"and {int(self.bits(sequence)[column]):#x} was appended"
            )
        require((bits[self.columns :] == STALE_BITS).all(), f"frame {sequence}: a column of no series is not absent")


def _timestamp_ns(sequence: int) -> int:
    """Of both signs."""
    return sequence * _SECOND_NS * (-1 if sequence % 2 else 1)


def series_of(columns: int) -> list[Metric]:
    """Metrics of one series each that take so many columns in all; histograms, for they take many at a time."""
    metrics: list[Metric] = []
    while columns > 0:
        taken = min(columns, _HISTOGRAM) if columns > 3 else 1
        name = f"metric_{len(metrics)}"
        bounds = tuple((i + 1) / 3 for i in range(taken - 3))
        if bounds:
            metrics.append(Metric(name, "histogram", "Proves itself: µ.", "", ("n",), bounds))
        else:
            metrics.append(Metric(name, "gauge", "Proves itself: µ.", "", ("n",)))
        columns -= taken
    return metrics


# ---- what can be ordered ---------------------------------------------------------------------------------------


def about() -> dict[str, Any]:
    return {
        "machine": platform.machine(),
        "byteorder": sys.byteorder,
        "page_bytes": mmap.PAGESIZE,
        "python": platform.python_version(),
    }


def seals(seed: int) -> dict[str, Any]:
    """The three seals over bytes of every length that matters."""
    chance = random.Random(seed)
    made = []
    for length in _LENGTHS:
        data, number, salt = chance.randbytes(length), chance.getrandbits(64), chance.getrandbits(64)
        made += [frame_seal(data, number, salt), entry_seal(data, number, salt), header_seal(data)]
    return {"seals": made}


def write(namespace: str, source: str, columns: int, frames: int) -> dict[str, Any]:
    """Open the ring, enter what series are new, append so many rows, close it."""
    rows = Rows(columns)
    with _writer(namespace, source, columns) as writer:
        resumed, head = writer.resumed, writer.head
        for _ in range(frames):
            rows.append(writer)
        return {"resumed": resumed, "head": head}


@contextlib.contextmanager
def _writer(namespace: str, source: str, columns: int) -> Iterator[RingWriter]:
    with RingWriter(namespace, source, interval_ns=INTERVAL_NS, capacity=SLOTS, width=columns) as writer:
        for metric in series_of(columns):
            writer.add_series(metric, ("µ",))
        yield writer


def widen(namespace: str, source: str, columns: int, width: int) -> dict[str, Any]:
    """Let the ring grow to more columns, which are taken by no series: rebuilt, its history copied."""
    with _writer(namespace, source, columns) as writer:
        writer.reserve(width - columns)
        return {"width": writer.width, "generation": writer.header.generation}


def read(namespace: str, source: str, columns: int) -> dict[str, Any]:
    """Read and check everything the ring holds."""
    rows = Rows(columns)
    with RingReader(namespace, source) as reader:
        known = [(one.metric, one.label_values) for one in reader.series]
        require(known == [(metric, ("µ",)) for metric in series_of(columns)], "the catalog was written otherwise")
        newest = reader.newest_sequence()
        held = []
        for sequence in range(newest - SLOTS, newest + 2):  # with one that was lapped, and one that is still to come
            frame = reader.frame(sequence)
            if frame is not None:
                rows.check(frame)
                held.append(sequence)
        windowed = rows.check_window(reader)
        require(windowed == min(SLOTS - GUARD, len(held)), f"{windowed} of {len(held)} frames came as a window")
        return {"sequences": held}


def alignment(namespace: str, source: str) -> dict[str, Any]:
    """The addresses of the words that are read and written by themselves, in a map of this machine."""
    with RingReader(namespace, source) as reader, ring_path(namespace, source).open("r+b") as file:
        header = reader.header
        mapped = mmap.mmap(file.fileno(), header.segment_bytes)
        start = int(np.frombuffer(mapped, np.uint8).__array_interface__["data"][0])
        mapped.close()
        for sequence in range(1, SLOTS + 1):
            offset = header.slot_offset(sequence)
            address = start + offset
            require(address % 8 == 0, f"the words of a slot are not aligned: slot {sequence} is at offset {offset}")
    return {"slots": SLOTS}


_held: list[contextlib.ExitStack] = []


def hold(namespace: str, source: str, columns: int) -> dict[str, Any]:
    """Open the ring for writing, and keep it until ``release``."""
    stack = contextlib.ExitStack()
    stack.enter_context(_writer(namespace, source, columns))
    _held.append(stack)
    return {"pid": os.getpid()}


def release() -> dict[str, Any]:
    _held.pop().close()
    return {}


def holder(namespace: str, source: str) -> dict[str, Any]:
    """Who refuses us as a second writer; -1: nobody did."""
    try:
        RingWriter(namespace, source, interval_ns=INTERVAL_NS, capacity=SLOTS).close()
    except WriterBusy as busy:
        return {"pid": busy.pid}
    return {"pid": -1}


def follows(namespace: str, source: str) -> dict[str, Any]:
    """Whether a reader takes what is under that name, a symbolic link."""
    try:
        RingReader(namespace, source).close()
    except RingForeign:
        return {"opened": False}
    return {"opened": True}


def race(namespace: str, source: str, columns: int, seconds: float, readers: int, writes: bool) -> dict[str, Any]:
    """Write flat out, or don't, while so many processes read; how much each did."""
    until = time.monotonic() + seconds
    pipes = [_forked_reader(namespace, source, columns, until) for _ in range(readers)]
    appended = _write_flat_out(namespace, source, columns, until) if writes else 0
    read = skipped = 0
    for pid, pipe in pipes:
        with open(pipe, "rb") as file:
            answer = file.read()  # until it ends, which it does by the same clock
        os.waitpid(pid, 0)
        done = json.loads(answer or '{"wrong": "a reader died"}')
        require("wrong" not in done, str(done.get("wrong")))
        read += done["read"]
        skipped += done["skipped"]
    return {"appended": appended, "read": read, "skipped": skipped}


def _write_flat_out(namespace: str, source: str, columns: int, until: float) -> int:
    rows, appended = Rows(columns), 0
    with _writer(namespace, source, columns) as writer:
        while time.monotonic() < until:
            for _ in range(8):
                rows.append(writer)
            appended += 8
    return appended


def _forked_reader(namespace: str, source: str, columns: int, until: float) -> tuple[int, int]:
    """The reader's pid, and the pipe that brings what it did."""
    pipe, ours = os.pipe()
    parent = os.getpid()
    pid = os.fork()
    if pid:
        os.close(ours)
        return pid, pipe
    try:
        done = _answer(lambda: _read_flat_out(namespace, source, columns, until, parent))
        os.write(ours, json.dumps(done).encode())
    finally:
        os._exit(0)


def _read_flat_out(namespace: str, source: str, columns: int, until: float, parent: int) -> dict[str, Any]:
    rows, read, skipped, rounds = Rows(columns), 0, 0, 0
    with RingReader(namespace, source) as reader:
        while time.monotonic() < until and os.getppid() == parent:
            head = reader.head
            # The newest; and the one that is lapped next, which is where most reads are torn.
            for frame in (reader.latest(), reader.frame(head - SLOTS + 1), reader.frame(head - SLOTS + 2)):
                if frame is None:
                    skipped += 1
                else:
                    rows.check(frame)
                    read += 1
            rounds += 1
            if rounds % 8 == 0:
                read += rows.check_window(reader)
    return {"read": read, "skipped": skipped}


# ---- orders and answers ----------------------------------------------------------------------------------------

ORDERS: Final[dict[str, Callable[..., dict[str, Any]]]] = {
    order.__name__: order
    for order in (about, seals, write, widen, read, alignment, hold, release, holder, follows, race)
}


def _answer(order: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return order()
    except Wrong as wrong:
        return {"wrong": str(wrong)}


def main() -> int:
    time.time_ns = lambda: CREATED_NS  # unittest.mock would take half as long again to import
    for line in sys.stdin:
        order = json.loads(line)
        do = ORDERS[order.pop("do")]
        print(json.dumps(_answer(lambda do=do, order=order: do(**order))), flush=True)  # type: ignore[misc]
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
