"""Attack I3: SIGKILL of the writer at any instant loses at most the frame in flight, and leaves nothing behind.

At every line of shm/ that an operation runs (:mod:`tests.siege.death.lines`): all of them in the long form, one of some
in the short one. And at random instants: a writer that appends, enters series and grows without pause is killed some
milliseconds after its start, again and again; each successor begins where it ended.
"""

from __future__ import annotations

import functools
import itertools
import mmap
import os
import random
import signal
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Final

from shm.errors import RingCorrupt, RingMissing
from shm.files import DIRECTORY, building_path, unlink
from shm.ring.reader import RingReader
from tests.rings import GAUGE, append_proof, open_writer
from tests.rings import check as check_frame
from tests.siege.death.lines import OPERATIONS, kill_at_lines
from tests.siege.harness import Counts, Effort, Mutant, own_namespace, require, violation_at
from tests.siege.processes import fork, reaped

_CAPACITY: Final = 16
_KILLS_A_LIFE: Final = 40  # then the ring begins anew, so that growth from its first width is tried again
_MOST_SERIES: Final = 300
_LONGEST_SECONDS: Final = 0.012  # from fork to kill: half of it the start, with a resume or a rebuild

MUTANTS = (
    Mutant(
        "death", "the name is given before the segment is whole", "shm.ring.lifecycle:publish",
        code="segment.finish()",
        becomes="temporary = temporary.rename(ring_path(namespace, header.source))\nsegment.finish()",
        says="magic is 0x0",
    ),
    Mutant(
        "death", "the snapshot is written in its place", "shm.ring.disk_copy:take",
        code='final.with_name(f"{final.name}.new")', becomes="final", says="snapshot",
    ),
    Mutant(
        "death", "what a dead writer was building is left", "shm.ring.writer:RingWriter.__init__",
        code="litter.unlink(missing_ok=True)", becomes="None", says="a half-built segment",
    ),
    Mutant(
        "death", "the next writer takes the hint for the head", "shm.ring.segment:StoredSegment._prove_slots",
        code="max(least_head, *whole, 0)", becomes="max(least_head, *whole, 0) + 1", says="resumes",
    ),
    Mutant(
        "death", "a rebuild forgets the newest frame", "shm.ring.lifecycle:_carry_frames",
        code="old.history()[-new.header.capacity :]", becomes="old.history()[:-1]", says="a reader finds",
    ),
)  # fmt: skip


def check(effort: Effort) -> Counts:
    counts: dict[str, int | str] = {}
    with own_namespace() as namespace, tempfile.TemporaryDirectory(dir=DIRECTORY) as directory:
        lines = Counter[str]()
        for operation in OPERATIONS:
            step = 1 if effort.long else max(round(operation.step / effort.scale), 1)
            first = 1 + effort.random().randrange(step)
            lines[operation.name] = kill_at_lines(namespace, Path(directory), operation, itertools.count(first, step))
            require(lines[operation.name], f"{operation.name} was never killed")
        counts["kills at lines"] = sum(lines.values())
        counts["of"] = ", ".join(f"{name} {number}" for name, number in lines.items())
        counts |= _kill_at_random(namespace, effort)
    return counts


def _kill_at_random(namespace: str, effort: Effort) -> dict[str, int]:
    random_ = effort.random()
    acknowledged = memoryview(mmap.mmap(-1, 4096)).cast("Q")  # [newest appended, frames, series, starts]
    acknowledged[0] = newest = 0
    kills = effort.many(250, 10_000)
    checked = 0
    for kill in range(kills):
        if kill % _KILLS_A_LIFE == 0:
            unlink(namespace, "s")
            acknowledged[0] = newest = 0
        seed = random_.random()
        forked = fork(functools.partial(_write_without_pause, namespace, acknowledged, newest, seed))
        time.sleep(random_.uniform(0, _LONGEST_SECONDS))
        os.kill(forked, signal.SIGKILL)
        status = reaped(forked)
        with violation_at(f"kill {kill}", RingCorrupt):
            require(status == -signal.SIGKILL, f"the writer ended by itself, with status {status}")
            found, held = _look(namespace, acknowledged[0])
        checked += held
        acknowledged[0] = newest = found  # what was whole when its writer died counts as appended from here on
    unlink(namespace, "s")
    return {
        "kills at random instants": kills, "frames appended meanwhile": acknowledged[1],
        "series entered": acknowledged[2], "starts that resumed": acknowledged[3],
        "frames found whole": checked,
    }  # fmt: skip


def _write_without_pause(namespace: str, acknowledged: memoryview[int], resume_at: int, seed: float) -> None:
    """Write until SIGKILL."""
    parent = os.getppid()
    random_ = random.Random(seed)
    writer = open_writer(namespace, capacity=_CAPACITY)
    require(writer.head == resume_at, f"the next writer resumes at {writer.head}, not {resume_at}")
    require(not building_path(namespace, "s").exists(), "a half-built segment outlives the next start")
    acknowledged[3] += 1
    while os.getppid() == parent:  # it does not outlive a check that was ended
        if random_.random() < 0.03 and len(writer.columns) < _MOST_SERIES:
            writer.add_series(GAUGE, (str(len(writer.columns)),))
            acknowledged[2] += 1
        else:
            append_proof(writer)
            acknowledged[0] = writer.head
            acknowledged[1] += 1


def _look(namespace: str, acknowledged: int) -> tuple[int, int]:
    """Check every frame by a reader; the newest sequence, and how many frames are whole."""
    try:
        reader = RingReader(namespace, "s")
    except RingMissing:
        require(acknowledged == 0, f"the ring is gone, after frame {acknowledged}")
        return 0, 0
    with reader:
        newest = reader.newest_sequence()
        require(
            newest in (acknowledged, acknowledged + 1),
            f"the newest frame is {newest}, and {acknowledged} was appended",
        )
        expected = range(max(newest - _CAPACITY + 1, 1), newest + 1)
        frames = [frame for sequence in expected if (frame := reader.frame(sequence)) is not None]
        # The frame in flight took the slot of the oldest; one that a kill tore before is lapped only later.
        require(len(frames) >= len(expected) - 1, f"a reader finds {len(frames)} frames of {expected}")
        named = len(reader.series)
        for frame in frames:
            require(frame.count <= named, f"the catalog names {named} of {frame.count} columns")
            with violation_at(f"frame {frame.sequence} is not what was appended"):
                check_frame(frame, frame.count)
        return newest, len(frames)
