"""``python -m tests.siege.hardware.program writer|shuffler|reader NAMESPACE``: the processes of the check ``hardware``.

Each takes orders from its standard input, one JSON object a line, and answers with one on its standard output. It ends
when its input does, so that none outlives the check.

    writer     {"source", "columns"}                   appends without pause until the next line, then tells how many
    shuffler   the same                                its stores come in an order of their own, another for each frame
    reader     {"source", "columns", "quota", "seed"}  reads that many frames, checks each that it accepts, tells both

The shuffler is what another processor would do, by hand: the pieces of a frame, A1 to A4, are stored in random order,
but for the two stores of the sequence itself. What a reader must not rest on is then not there.
"""

from __future__ import annotations

import itertools
import json
import mmap
import os
import random
import select
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from shm.files import ring_path
from shm.ring.frame import Frame
from shm.ring.layout import SLOT_PAYLOAD, STALE_NAN_BITS, WORD_HEAD
from shm.ring.protocol import frame_seal
from shm.ring.reader import RingReader
from tests.rings import open_writer
from tests.siege.hardware.frames import Proof, flags, timestamp_ns
from tests.siege.harness import Violation

CAPACITY = 8
PATIENCE_SECONDS = 60.0  # a reader that is starved gives up, and says so
_BATCH = 256  # appends between two looks at the input
_PIECES = 4  # that the shuffler stores a payload in


def _orders() -> Iterator[dict[str, Any]]:
    while line := sys.stdin.readline():
        yield json.loads(line)


def _answer(**fields: object) -> None:
    print(json.dumps(fields), flush=True)


def _told_to_stop() -> bool:
    """Whether the next line is there; it is taken."""
    return bool(select.select([sys.stdin], [], [], 0)[0]) and bool(sys.stdin.readline() or True)


# ---- writers -------------------------------------------------------------------------------------------------


def writer(namespace: str) -> None:
    for order in _orders():
        columns = order["columns"]
        proof, row = Proof(columns), np.empty(columns)
        values = row.data
        with open_writer(namespace, order["source"], capacity=CAPACITY, columns=columns) as ring:
            begun = ring.head
            _answer(begun=True)
            while not _told_to_stop():
                for sequence in range(ring.head + 1, ring.head + 1 + _BATCH):
                    proof.put(sequence, row)
                    ring.append(values, timestamp_ns(sequence), sequence, flags(sequence))
            appended = ring.head - begun
        _answer(appended=appended)


def shuffler(namespace: str) -> None:
    chance = random.Random(1)
    for order in _orders():
        columns = order["columns"]
        with open_writer(namespace, order["source"], capacity=CAPACITY, columns=columns) as ring:
            header, head = ring.header, ring.head
        path = ring_path(namespace, order["source"])
        with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
            store = _shuffled(memoryview(mapped), header.slots_offset, header.slot_bytes, header.salt, columns, chance)
            _answer(begun=True)
            begun = head
            while not _told_to_stop():
                for sequence in range(head + 1, head + 1 + _BATCH):
                    store(sequence)
                head += _BATCH
            del store  # its views of the map
        _answer(appended=head - begun)


def _shuffled(
    shared: memoryview, slots_offset: int, slot_bytes: int, salt: int, columns: int, chance: random.Random
) -> Callable[[int], None]:
    """A store of one frame into its slot, in pieces, in one of many random orders."""
    words = shared.cast("Q")
    proof = Proof(columns)
    payload = np.empty((slot_bytes - SLOT_PAYLOAD) // 8, dtype=np.uint64)
    payload[4 + columns :] = STALE_NAN_BITS
    head, row, own = payload[:4], payload[4 : 4 + columns].view(np.float64), payload.data.cast("B")
    cuts = [len(payload) * i // _PIECES * 8 for i in range(_PIECES + 1)]
    pieces = list(itertools.pairwise(cuts))
    # What is stored: the pieces, the seal, and the sequence twice, 0 and then its number.
    seal, stores = _PIECES, range(_PIECES + 3)
    orders = itertools.cycle([chance.sample(stores, len(stores)) for _ in range(997)])

    def store(sequence: int) -> None:
        head[:] = timestamp_ns(sequence), sequence, columns, flags(sequence)
        proof.put(sequence, row)
        word = (slots_offset + (sequence - 1) % CAPACITY * slot_bytes) >> 3
        start = 8 * word + SLOT_PAYLOAD
        sealed = frame_seal(own, sequence, salt)
        zeroed = False
        for piece in next(orders):
            if piece < _PIECES:
                begin, end = pieces[piece]
                shared[start + begin : start + end] = own[begin:end]
            elif piece == seal:
                words[word + 1] = sealed
            elif not zeroed:  # stores to one word stay in order, on any processor
                words[word] = 0  # A1
                zeroed = True
            else:
                words[word] = sequence  # A4
        words[WORD_HEAD] = sequence

    return store


# ---- readers -------------------------------------------------------------------------------------------------


def reader(namespace: str) -> None:
    for order in _orders():
        columns, quota = order["columns"], order["quota"]
        chance = random.Random(order["seed"])
        with RingReader(namespace, order["source"]) as ring:
            siege = _Siege(ring, Proof(columns))
            until = time.monotonic() + PATIENCE_SECONDS + quota / 1000
            try:
                while siege.read < quota and time.monotonic() < until and not _told_to_stop():
                    chance.choice(siege.ways)()
            except Violation as violation:
                _answer(wrong=str(violation))
            else:
                _answer(read=siege.read, accepted=siege.accepted, windows=siege.windows, late=siege.read < quota)


class _Siege:
    """All the ways to read a ring, each checked to the last word."""

    def __init__(self, ring: RingReader, proof: Proof) -> None:
        self.ring = ring
        self.proof = proof
        self.read = self.accepted = self.windows = 0
        self._frames: list[Frame] = []  # accepted, to be checked together
        self._asked: list[int] = []
        # One by one is the way that meets the writer most often; it has most of the time.
        self.ways = (self.by_sequence, self.by_sequence, self.by_sequence, self.latest, self.all, self.by_time)

    def by_sequence(self) -> None:
        """frame(): each slot under the number it may hold, and the newest under the number it gets next."""
        for _ in range(6):
            head = self.ring.head
            for sequence in range(max(head - CAPACITY + 1, 1), head + 2):
                self._take(self.ring.frame(sequence), sequence, "frame()")
        self._check("frame()")

    def latest(self) -> None:
        for _ in range(8):
            frame = self.ring.latest()
            self._take(frame, frame.sequence if frame else 0, "latest()")
        self._check("latest()")

    def _take(self, frame: Frame | None, asked: int, how: str) -> None:
        self.read += 1
        if frame is not None:
            self._frames.append(frame)
            self._asked.append(asked)
            if len(self._frames) == self.proof.batch:
                self._check(how)

    def _check(self, how: str) -> None:
        self.accepted += len(self._frames)
        self.proof.check_frames(self._frames, self._asked, how)
        self._frames.clear()
        self._asked.clear()

    def all(self) -> None:
        self._window(None, None)

    def by_time(self) -> None:
        head = self.ring.head
        self._window(timestamp_ns(max(head - 3, 0)), timestamp_ns(head + 2))

    def _window(self, since_ns: int | None, until_ns: int | None) -> None:
        window = self.ring.frames(since_ns, until_ns)
        self.read += 1 + len(window.sequence) + window.skipped  # one to find the newest
        self.accepted += len(window.sequence)
        self.windows += 1
        self.proof.check_window(window, "frames()")
        if since_ns is not None and until_ns is not None:
            inside = (window.timestamp_ns > since_ns) & (window.timestamp_ns <= until_ns)
            if not inside.all():
                raise Violation(f"I1: frames(): {window.timestamp_ns.tolist()} is not in {since_ns}…{until_ns}")


if __name__ == "__main__":
    try:
        {"writer": writer, "shuffler": shuffler, "reader": reader}[sys.argv[1]](sys.argv[2])
    except BrokenPipeError:
        os._exit(1)  # the check has ended before us, and wants no answer
