"""``python -m tests.siege.emulated.program``: one side of the check ``emulated``, on this machine or an emulated one.

Takes the orders of :mod:`tests.siege.hardware.program` and more. It imports nothing but shm and numpy, so that a bare
userland of another machine can run it.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import platform
import random
import sys
import time
from typing import Any, Final

import numpy as np

from shm.errors import RingForeign, WriterBusy
from shm.files import ring_path
from shm.ring.protocol import entry_seal, frame_seal, header_seal
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter
from tests.siege.hardware.frames import Rows, metrics_of
from tests.siege.hardware.program import CAPACITY, INTERVAL_NS, obey, opened, race
from tests.siege.violation import require

GUARD: Final = 4  # the oldest slots, which a window leaves out
CREATED_NS: Final = 1_700_000_000_000_000_000  # of every segment, so that the segments of two machines can be alike
# Below, at and above each length at which XXH3 takes another path, up to the row of 4,096 values.
_LENGTHS: Final = (*range(300), 511, 512, 513, 1023, 1024, 1025, 2048, 32_800)

_held: list[contextlib.ExitStack] = []


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
    with opened(namespace, source, columns) as writer:
        resumed, head = writer.resumed, writer.head
        for _ in range(frames):
            rows.append(writer)
        return {"resumed": resumed, "head": head}


def widen(namespace: str, source: str, columns: int, width: int) -> dict[str, Any]:
    """Rebuild the ring with more columns and its history."""
    with opened(namespace, source, columns) as writer:
        writer.reserve(width - columns)
        return {}


def read(namespace: str, source: str, columns: int) -> dict[str, Any]:
    """Read and check everything that the ring holds."""
    rows = Rows(columns)
    with RingReader(namespace, source) as reader:
        known = [(one.metric, one.label_values) for one in reader.series]
        require(known == [(metric, ("µ",)) for metric in metrics_of(columns)], "the catalog has other series")
        newest = reader.newest_sequence()
        held = []
        for sequence in range(newest - CAPACITY, newest + 2):  # with a lapped one, and one that is still to come
            frame = reader.frame(sequence)
            if frame is not None:
                rows.check(frame, sequence)
                held.append(sequence)
        window = reader.frames()
        rows.check_window(window)
        windowed = len(window.sequence)
        require(windowed == min(CAPACITY - GUARD, len(held)), f"{windowed} of {len(held)} frames are in a window")
        return {"sequences": held}


def alignment(namespace: str, source: str) -> dict[str, Any]:
    """Check the addresses of the words that are loaded and stored one by one, in a map of this machine."""
    with RingReader(namespace, source) as reader, ring_path(namespace, source).open("r+b") as file:
        header = reader.header
        mapped = mmap.mmap(file.fileno(), header.segment_bytes)
        start = int(np.frombuffer(mapped, np.uint8).__array_interface__["data"][0])
        mapped.close()
        for sequence in range(1, CAPACITY + 1):
            offset = header.slot_offset(sequence)
            aligned = (start + offset) % 8 == 0
            require(aligned, f"the words of a slot are not aligned: slot {sequence} is at offset {offset}")
    return {}


def hold(namespace: str, source: str, columns: int) -> dict[str, Any]:
    """Open the ring for writing, and keep it until ``release``."""
    stack = contextlib.ExitStack()
    stack.enter_context(opened(namespace, source, columns))
    _held.append(stack)
    return {"pid": os.getpid()}


def release() -> dict[str, Any]:
    _held.pop().close()
    return {}


def holder(namespace: str, source: str) -> dict[str, Any]:
    """The pid of the writer that keeps this process out; -1: none."""
    try:
        RingWriter(namespace, source, interval_ns=INTERVAL_NS, capacity=CAPACITY).close()
    except WriterBusy as busy:
        return {"pid": busy.pid}
    return {"pid": -1}


def follows(namespace: str, source: str) -> dict[str, Any]:
    """Whether a reader opens a symbolic link under the ring's name."""
    try:
        RingReader(namespace, source).close()
    except RingForeign:
        return {"opened": False}
    return {"opened": True}


if __name__ == "__main__":
    time.time_ns = lambda: CREATED_NS  # unittest.mock would take half as long again to import
    orders = (about, seals, write, widen, read, alignment, hold, release, holder, follows, race)
    obey({order.__name__: order for order in orders})
