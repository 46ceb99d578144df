"""``python -m tests.siege.hardware.program``: a writer flat out and readers, which the check ``hardware`` commands.

Takes orders from its standard input, one JSON object a line, ``{"do": "race", …}``, and answers each with one line: an
object, or ``{"wrong": "…"}`` where it saw a promise broken. It ends when its input does. The program of ``emulated``
takes these orders and more; both import numpy and shm alone.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import mmap
import os
import random
import select
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import numpy as np

from shm.files import ring_path
from shm.ring.frame import Frame
from shm.ring.layout import SLOT_PAYLOAD, WORD_HEAD
from shm.ring.protocol import frame_seal
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter
from tests.siege.hardware.frames import ABSENT_BITS, Rows, metrics_of, timestamp_ns
from tests.siege.violation import Violation

CAPACITY: Final = 8
INTERVAL_NS: Final = 15_000_000_000
_BATCH: Final = 8  # appends between two looks at the readers
_PIECES: Final = 4  # in which the shuffler stores a payload

Order = Callable[..., dict[str, Any]]


@contextlib.contextmanager
def opened(namespace: str, source: str, columns: int) -> Iterator[RingWriter]:
    """A writer of a ring with so many columns."""
    with RingWriter(namespace, source, interval_ns=INTERVAL_NS, capacity=CAPACITY, width=columns) as writer:
        for metric in metrics_of(columns):
            writer.add_series(metric, ("µ",))
        yield writer


def race(
    namespace: str,
    source: str,
    columns: int,
    readers: int,
    seconds: float,
    frames: int,
    writes: str = "",
    seed: int = 0,
) -> dict[str, Any]:
    """Write flat out, or not at all, while forks read; what was done in all.

    Each reader reads so many frames, and everything ends after so many seconds. ``writes``: "in order", by the ring's
    writer; "shuffled", with the stores of a frame in random order.
    """
    if writes:
        with opened(namespace, source, columns):
            pass  # so that the readers find the ring
    until = time.monotonic() + seconds
    forks: dict[int, int] = {}  # the pipe that brings its answer → the reader's pid
    for number in range(readers):
        pipe, pid = _fork_reader(namespace, source, columns, frames, until, random.Random(seed + number))
        forks[pipe] = pid

    def lasts() -> bool:
        return time.monotonic() < until and len(select.select(forks, [], [], 0)[0]) < readers

    done = Counter({"frames appended": _WRITERS[writes](namespace, source, columns, lasts) if writes else 0})
    for pipe, pid in forks.items():
        with open(pipe, "rb") as file:
            answer = file.read()
        os.waitpid(pid, 0)
        found = json.loads(answer or '{"wrong": "a reader died"}')
        if "wrong" in found:
            raise Violation(found["wrong"])
        done.update(found)
    return dict(done)


# ---- writers ---------------------------------------------------------------------------------------------------


def _write_in_order(namespace: str, source: str, columns: int, lasts: Callable[[], bool]) -> int:
    rows = Rows(columns)
    with opened(namespace, source, columns) as writer:
        begun = writer.head
        while lasts():
            for _ in range(_BATCH):
                rows.append(writer)
        return writer.head - begun


def _write_shuffled(namespace: str, source: str, columns: int, lasts: Callable[[], bool]) -> int:
    """Store the pieces of each frame in another order, as a processor without store order could."""
    chance = random.Random(1)
    with opened(namespace, source, columns) as writer:
        header, begun = writer.header, writer.head
    with ring_path(namespace, source).open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        shared = np.frombuffer(mapped, np.uint64)
        rows, sequence = Rows(columns), begun
        payload = np.empty((header.slot_bytes - SLOT_PAYLOAD) // 8, dtype=np.uint64)
        payload[4 + columns :] = ABSENT_BITS
        pieces = list(itertools.pairwise(len(payload) * i // _PIECES for i in range(_PIECES + 1)))
        # The stores: the pieces, the seal, and the sequence twice, first 0 and then its number.
        stores = range(_PIECES + 3)
        while sequence % _BATCH or lasts():
            sequence += 1
            payload[:4] = timestamp_ns(sequence), sequence, columns, sequence % 4
            payload[4 : 4 + columns] = rows.bits(sequence)
            slot = header.slot_offset(sequence) // 8
            zeroed = False
            for store in chance.sample(stores, len(stores)):
                if store < _PIECES:
                    start, end = pieces[store]
                    at = slot + SLOT_PAYLOAD // 8
                    shared[at + start : at + end] = payload[start:end]
                elif store == _PIECES:
                    shared[slot + 1] = frame_seal(payload.tobytes(), sequence, header.salt)
                else:  # stores to one word stay in order on any processor: A1, then A4
                    shared[slot] = sequence if zeroed else 0
                    zeroed = True
            shared[WORD_HEAD] = sequence
        del shared  # its view of the map
    return sequence - begun


_WRITERS: Final = {"in order": _write_in_order, "shuffled": _write_shuffled}

# ---- readers ---------------------------------------------------------------------------------------------------


def _fork_reader(
    namespace: str, source: str, columns: int, frames: int, until: float, chance: random.Random
) -> tuple[int, int]:
    """The pipe that the reader's answer comes through, and its pid."""
    pipe, ours = os.pipe()
    parent = os.getpid()

    def lasts() -> bool:
        return time.monotonic() < until and os.getppid() == parent

    pid = os.fork()
    if pid:
        os.close(ours)
        return pipe, pid
    try:
        done = answered(lambda: _read(namespace, source, columns, frames, lasts, chance))
        os.write(ours, json.dumps(done).encode())
    finally:
        os._exit(0)


def _read(
    namespace: str, source: str, columns: int, frames: int, lasts: Callable[[], bool], chance: random.Random
) -> dict[str, Any]:
    """Read the ring in every way, and check every word of what is accepted."""
    rows, done = Rows(columns), Counter({"frames read": 0, "accepted": 0, "windows": 0})

    def take(frame: Frame | None, asked: int) -> None:
        done["frames read"] += 1
        if frame is not None:
            rows.check(frame, asked)
            done["accepted"] += 1

    with RingReader(namespace, source) as reader:
        while done["frames read"] < frames and lasts():
            for _ in range(4):
                head = reader.head
                # Each slot under the number that it may hold, and the newest under the number that comes next.
                for sequence in range(max(head - CAPACITY + 1, 1), head + 2):
                    take(reader.frame(sequence), sequence)
                latest = reader.latest()
                take(latest, latest.sequence if latest else 0)
            some = timestamp_ns(max(head - 3, 0)), timestamp_ns(head + 2)
            window = reader.frames(*chance.choice(((None, None), some)))
            rows.check_window(window)
            held = len(window.sequence)
            done.update({"frames read": held + window.skipped, "accepted": held, "windows": 1})
    return dict(done)


# ---- orders and answers ----------------------------------------------------------------------------------------


def answered(order: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return order()
    except Violation as violation:
        return {"wrong": str(violation)}


def obey(orders: Mapping[str, Order]) -> None:
    for line in sys.stdin:
        order = json.loads(line)
        do = orders[order.pop("do")]
        print(json.dumps(answered(lambda do=do, order=order: do(**order))), flush=True)  # type: ignore[misc]


if __name__ == "__main__":
    obey({"race": race})
