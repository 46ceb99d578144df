"""Attack the history over a reboot and an upgrade: what a snapshot held comes back, and nothing else does.

A writer appends, enters series and is snapshotted without pause; it is stopped or killed, shared memory is emptied, and
its successor must have what the last whole snapshot had: all of it after an orderly stop. Snapshots are also damaged at
random, and must give back nothing that was not appended; and segments of another layout must be set aside by name,
whole, also where there is no room for another segment.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import random
import signal
import tempfile
import time
from pathlib import Path
from typing import Final
from unittest import mock

from collector.loop.disk_copies import Snapshots
from shm.errors import NoSpace
from shm.files import files_of, ring_path, unlink
from shm.ring import disk_copy
from shm.ring.frame import Frame
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter
from tests.rings import GAUGE, INTERVAL_NS, SECOND_NS
from tests.siege.harness import Counts, Effort, Mutant, own_namespace, require
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
    sequence = writer.head + 1
    while len(writer.columns) < _columns(sequence):
        writer.add_series(GAUGE, (str(len(writer.columns)),))
    values = [float(sequence * 4096 + column) for column in range(_columns(sequence))]
    writer.append(values, sequence * SECOND_NS, sequence)


def _verify(frame: Frame | None, labels: list[str], when: str) -> None:
    assert frame is not None
    sequence, columns = frame.sequence, _columns(frame.sequence)
    require(frame.timestamp_ns == sequence * SECOND_NS, f"{when}, frame {sequence} has the time {frame.timestamp_ns}")
    require(frame.monotonic_ns == sequence, f"{when}, frame {sequence} has the monotonic time {frame.monotonic_ns}")
    found = {label: frame.value(column) for column, label in enumerate(labels)}
    for label, value in found.items():
        right = float(sequence * 4096 + int(label)) if int(label) < columns else None
        require(value == right, f"{when}, frame {sequence} has {value}, not {right}, for series {label}")


def _open(namespace: str, directory: Path) -> RingWriter:
    return RingWriter(namespace, "s", interval_ns=INTERVAL_NS, capacity=_CAPACITY, snapshot_dir=directory)


def _lives(namespace: str, directory: Path, random_: random.Random, rounds: int) -> dict[str, int]:
    # Counts of the writers: the newest frame appended, frames, snapshots.
    done = memoryview(mmap.mmap(-1, 4096)).cast("Q")
    orderly = killed = restored = 0
    before = 0
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
        when = f"round {number}, after {'an orderly stop' if stop else 'a kill'}"
        require(status <= 0, f"{when}, the writer failed with status {status}")
        ended_well = stop and status == 0  # a signal may come before it can be caught
        orderly += ended_well
        killed += not ended_well
        newest = _newest_on_disk(namespace, directory, when)
        require(before <= newest <= done[0] + 1, f"{when}, the snapshot ends with {newest}, after {before}…{done[0]}")
        if ended_well:
            require(newest == done[0], f"{when}, an orderly one, the snapshot ends with {newest}, not {done[0]}")
        unlink(namespace, "s")
        with _open(namespace, directory) as writer:
            require(writer.head == newest, f"{when}, the next writer begins after {writer.head}, not {newest}")
            restored += len(writer.history())
        before = newest
    return {
        "reboots after an orderly stop": orderly, "reboots after a kill": killed, "snapshots taken": done[2],
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


def _newest_on_disk(namespace: str, directory: Path, when: str) -> int:
    """Check every frame of the snapshot; the newest sequence, 0 without a snapshot."""
    if not disk_copy.file_of(directory, namespace, "s").exists():
        return 0
    stored = disk_copy.load(directory, namespace, "s")
    require(stored is not None, f"{when}, the snapshot can't be read")
    assert stored is not None
    with contextlib.closing(stored):
        labels = [series.label_values[0] for series in stored.catalog.series]
        history = stored.history()
        for sequence in history:
            _verify(stored.frame(sequence), labels, when)
        if history:
            columns = _columns(history[-1])
            require(len(labels) >= columns, f"{when}, the snapshot names {len(labels)} of {columns} columns")
            # The slot that was written while it was copied, and the one before that writer's start.
            missing = stored.head - max(stored.head - _CAPACITY, 0) - len(history)
            require(missing <= 2, f"{when}, the snapshot has lost {missing} frames")
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
            labels = [series.label_values[0] for series in reader.series]
            for sequence in writer.history():
                _verify(reader.frame(sequence), labels, f"damage {number}")
            restored += len(writer.history())
            refused += not writer.history()
    return {"damaged snapshots": times, "refused whole": refused, "frames restored from the others": restored}


def _layouts(namespace: str, directory: Path, times: int) -> int:
    disk_copy.unlink(directory, namespace)
    unlink(namespace, "s")
    for number in range(times):
        with _open(namespace, directory) as writer:
            _append(writer)
        with ring_path(namespace, "s").open("r+b") as file:
            file.seek(8)
            file.write(bytes([200]))  # a layout version that is not ours
        other = ring_path(namespace, "s").read_bytes()
        with mock.patch("os.posix_fallocate", side_effect=OSError(errno.ENOSPC, "No space left on device")):
            try:
                _open(namespace, directory).close()
            except NoSpace as error:
                require(".layout-200" in str(error), f"the error does not name the segment of another layout: {error}")
        aside = [path for path in files_of(namespace, "s") if "layout-200" in path.suffix]
        require(len(aside) == number + 1, f"of {number + 1} segments of another layout {len(aside)} are left")
        require(any(path.read_bytes() == other for path in aside), "a segment of another layout was changed")
    return times
