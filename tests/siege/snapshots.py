"""Attack the history over a reboot and an upgrade: what a snapshot held comes back, and nothing else does.

A writer appends, enters series and is snapshotted without pause; it is stopped or killed, shared memory is emptied, and
its successor must have what the last whole snapshot had: all of it after an orderly stop. Snapshots are also damaged at
random, and must give back nothing that was not appended; and segments of another layout must be set aside by name,
whole, also where there is no room for another segment.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from unittest import mock

from collector.loop.disk_copies import Snapshots
from shm.errors import NoSpace
from shm.files import files_of, ring_path, unlink
from shm.metric import Series
from shm.ring import disk_copy
from shm.ring.frame import Frame
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter
from tests.rings import GAUGE, append_proof, no_room, open_writer, overwrite
from tests.rings import check as check_frame
from tests.siege.harness import Counts, Effort, Mutant, own_namespace, require, violation_at
from tests.siege.processes import fork, reaped

_CAPACITY: Final = 64
_FRAMES_A_SERIES: Final = 20  # one more series after each so many frames, so that catalogs change under the copy
_ROUNDS_A_LIFE: Final = 25  # then the history begins anew, so that rings do not widen for ever

MUTANTS = (
    Mutant(
        "snapshots", "the catalog is copied before the slots", "shm.ring.disk_copy:_copy",
        patch="""
            import time

            def fault(source, ring, disk, start, end):
                if start:
                    original(source, ring, disk, 0, start)
                    time.sleep(0.02)
                    original(source, ring, disk, start, end)
        """,
        says="columns",
    ),
    Mutant(
        "snapshots", "an orderly stop takes none", "collector.loop.disk_copies:Snapshots.finish",
        code="self._take(writer)", becomes="None", says="orderly",
    ),
    Mutant(
        "snapshots", "frames are not proven", "shm.ring.frame:prove",
        code="frame_seal(view[SLOT_PAYLOAD:], sequence, salt) != seal", becomes="False", says="has ",
    ),
    Mutant(
        "snapshots", "a segment of another layout is removed for want of room",
        "shm.ring.lifecycle:_replace_unreadable", code="raise", becomes="pass", says="layout",
    ),
)  # fmt: skip


def check(effort: Effort) -> Counts:
    random_ = effort.random()
    with own_namespace() as namespace, tempfile.TemporaryDirectory() as directory:
        lives = _lives(namespace, Path(directory), random_, effort.many(60, 4_000))
        damaged = _damage(namespace, Path(directory), random_, effort.many(300, 20_000))
        layouts = _layouts(namespace, Path(directory), effort.many(5, 50))
    return {**lives, **damaged, "segments of another layout set aside": layouts}


def _columns(sequence: int) -> int:
    return 1 + sequence // _FRAMES_A_SERIES


def _append(writer: RingWriter) -> None:
    while len(writer.columns) < _columns(writer.head + 1):
        writer.add_series(GAUGE, (str(len(writer.columns)),))
    append_proof(writer)


def _verify(frame: Frame | None, series: Sequence[Series]) -> None:
    """The frame is what was appended, of the series that the catalog has."""
    assert frame is not None
    columns = [one.column for one in sorted(series, key=lambda one: int(one.label_values[0]))]
    require(columns == list(range(len(series))), f"the series have the columns {columns}")
    with violation_at(f"frame {frame.sequence} has other samples"):
        check_frame(frame, min(_columns(frame.sequence), len(series)))


def _open(namespace: str, directory: Path) -> RingWriter:
    return open_writer(namespace, capacity=_CAPACITY, snapshot_dir=directory)


def _lives(namespace: str, directory: Path, random_: random.Random, rounds: int) -> dict[str, int]:
    # Counts of the writers: the newest frame appended, frames, snapshots.
    done = memoryview(mmap.mmap(-1, 4096)).cast("Q")
    orderly = restored = before = 0
    for number in range(rounds):
        if number % _ROUNDS_A_LIFE == 0:
            disk_copy.unlink(directory, namespace)
            before = 0
        unlink(namespace, "s")  # a reboot
        done[0] = before
        forked = fork(lambda: _live(namespace, directory, done))
        time.sleep(random_.uniform(0.005, 0.06))
        stop = random_.random() < 0.5
        os.kill(forked, signal.SIGTERM if stop else signal.SIGKILL)
        status = reaped(forked)
        ended_well = stop and status == 0  # a signal may come before it can be caught
        orderly += ended_well
        with violation_at(f"round {number}, after {'an orderly stop' if ended_well else 'a kill'}"):
            require(status <= 0, f"the writer failed with status {status}")
            newest = _newest_on_disk(namespace, directory)
            least, most = (done[0], done[0]) if ended_well else (before, done[0] + 1)
            require(least <= newest <= most, f"the snapshot ends with {newest}, not within {least}…{most}")
            unlink(namespace, "s")
            with _open(namespace, directory) as writer:
                require(writer.head == newest, f"the next writer begins after {writer.head}, not {newest}")
                restored += len(writer.history())
        before = newest
    return {
        "reboots after an orderly stop": orderly, "reboots after a kill": rounds - orderly, "snapshots taken": done[2],
        "frames appended": done[1], "frames restored": restored,
    }  # fmt: skip


def _live(namespace: str, directory: Path, done: memoryview[int]) -> None:
    stopped: list[bool] = []
    with _open(namespace, directory) as writer:
        snapshots = Snapshots(directory, namespace, "s", 0.004)
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
        snapshots.start()
        last = snapshots.last_seconds
        while not stopped:
            _append(writer)
            done[0] = writer.head
            done[1] += 1
            done[2] += snapshots.last_seconds != last
            last = snapshots.last_seconds
            time.sleep(0.0005)
        snapshots.finish(writer)


def _newest_on_disk(namespace: str, directory: Path) -> int:
    """Check every frame of the snapshot; the newest sequence, 0 without a snapshot."""
    if not disk_copy.file_of(directory, namespace, "s").exists():
        return 0
    stored = disk_copy.load(directory, namespace, "s")
    require(stored is not None, "the snapshot can't be read")
    assert stored is not None
    with contextlib.closing(stored):
        series = stored.catalog.series
        history = stored.history()
        if history:
            columns = _columns(history[-1])
            require(len(series) >= columns, f"the snapshot names {len(series)} of {columns} columns")
            # The slot that was written while it was copied, and the one before that writer's start.
            missing = stored.head - max(stored.head - _CAPACITY, 0) - len(history)
            require(missing <= 2, f"the snapshot has lost {missing} frames")
        for sequence in history:
            _verify(stored.frame(sequence), series)
        return stored.head


def _damage(namespace: str, directory: Path, random_: random.Random, times: int) -> dict[str, int]:
    unlink(namespace, "s")
    disk_copy.unlink(directory, namespace)
    with _open(namespace, directory) as writer:
        for _ in range(_CAPACITY + 10):
            _append(writer)
        disk_copy.take(directory, namespace, "s")
        slots = writer.header.slots_offset
    file = disk_copy.file_of(directory, namespace, "s")
    whole = file.read_bytes()
    refused = restored = 0
    for number in range(times):
        damaged = bytearray(whole)
        start = 0 if random_.random() < 0.2 else slots
        for _ in range(random_.randrange(1, 8)):
            at = random_.randrange(start, len(damaged))
            damaged[at : at + random_.choice((1, 8, 64))] = random_.randbytes(random_.choice((1, 8, 64)))
        if random_.random() < 0.1:
            damaged = damaged[: random_.randrange(len(damaged))]
        file.write_bytes(damaged)
        unlink(namespace, "s")
        with _open(namespace, directory) as writer, RingReader(namespace, "s") as reader:
            history = writer.history()
            with violation_at(f"damage {number}"):
                for sequence in history:
                    _verify(reader.frame(sequence), reader.series)
            restored += len(history)
            refused += not history
    return {"damaged snapshots": times, "refused whole": refused, "frames restored from the others": restored}


def _layouts(namespace: str, directory: Path, times: int) -> int:
    disk_copy.unlink(directory, namespace)
    unlink(namespace, "s")
    for number in range(times):
        with _open(namespace, directory) as writer:
            _append(writer)
        overwrite(ring_path(namespace, "s"), 8, bytes([200]))  # a layout version that is not ours
        other = ring_path(namespace, "s").read_bytes()
        with mock.patch("os.posix_fallocate", no_room):
            try:
                _open(namespace, directory).close()
            except NoSpace as error:
                require(".layout-200" in str(error), f"the error does not name the segment of another layout: {error}")
        aside = [path for path in files_of(namespace, "s") if "layout-200" in path.suffix]
        require(len(aside) == number + 1, f"of {number + 1} segments of another layout {len(aside)} are left")
        require(any(path.read_bytes() == other for path in aside), "a segment of another layout was changed")
    return times
