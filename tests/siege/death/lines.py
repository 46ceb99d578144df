"""SIGKILL at every line of shm/ that an operation runs: a fork of this process for each, and a check of what is left.

A kill between two lines leaves what a kill anywhere between them leaves, except within a system call. A system call
happens or it does not, except long copies, which the random kills of :mod:`tests.siege.death.check` cut anywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shm.errors import RingCorrupt, RingError, RingMissing
from shm.files import building_path, ring_path, unlink
from shm.ring import disk_copy
from shm.ring.reader import RingReader
from tests.rings import GAUGE, append_proof, open_writer, overwrite, whole_frames
from tests.siege.harness import require, violation_at
from tests.siege.processes import dies_at_line

_FRAMES: Final = 12  # in a ring of 8 slots: 5 to 12 are held


@dataclass(frozen=True)
class Operation:
    """What is killed. ``width``: of the ring before.

    ``may_lose_all``: the ring's file was removed before, so that nothing is left if the writer dies.
    """

    name: str
    step: int  # lines from one kill to the next in the short form
    width: int = 8
    may_lose_all: bool = False

    def prepared(self, namespace: str, directory: Path) -> Callable[[], object]:
        """What comes before the operation is done, untraced; the function that is killed."""
        opens = functools.partial(open_writer, namespace)
        match self.name:
            case "first publish":
                unlink(namespace, "s")
                return opens
            case "restore":
                unlink(namespace, "s")
                return functools.partial(opens, snapshot_dir=directory)
            case "set aside":
                overwrite(ring_path(namespace, "s"), 0, bytes(64))
                return functools.partial(opens, snapshot_dir=directory)
            case "resume":
                return opens
            case "another capacity":
                return functools.partial(opens, capacity=16)
        writer = opens()
        match self.name:
            case "append":
                return lambda: append_proof(writer)
            case "close":
                return writer.close
            case "publish again":
                ring_path(namespace, "s").unlink()
                return writer.keep_published
            case "snapshot":
                return lambda: disk_copy.take(directory, namespace, "s")
        return lambda: writer.add_series(GAUGE, ("new",))  # in the catalog's room, or by growth


OPERATIONS: Final = (
    Operation("append", 3),
    Operation("catalog append", 13, width=16),
    Operation("growth", 120),
    Operation("resume", 60),
    Operation("another capacity", 150),
    Operation("close", 5),
    Operation("first publish", 25, may_lose_all=True),
    Operation("restore", 150, may_lose_all=True),
    Operation("set aside", 150, may_lose_all=True),
    Operation("publish again", 120, may_lose_all=True),
    Operation("snapshot", 12),
)


def kill_at_lines(namespace: str, directory: Path, operation: Operation, lines: Iterator[int]) -> int:
    """Kill the operation at each of those lines until it has no such line; the number of kills."""
    kills = 0
    for line in lines:
        _begin_with_history(namespace, directory, operation.width)
        if not dies_at_line(line, functools.partial(operation.prepared, namespace, directory), operation.name):
            break
        kills += 1
        with violation_at(f"killed at line {line} of {operation.name}", RingError, OSError):
            _look(namespace, directory, operation)
    return kills


def _begin_with_history(namespace: str, directory: Path, width: int) -> None:
    unlink(namespace, "s")
    disk_copy.unlink(directory, namespace)
    with open_writer(namespace, columns=8, width=width) as writer:
        append_proof(writer, _FRAMES)
        disk_copy.take(directory, namespace, "s")


def _look(namespace: str, directory: Path, operation: Operation) -> None:
    """Check what a reader finds, what the next writer resumes, and that no file is left."""
    whole = set(range(_FRAMES - 6, _FRAMES + 1))  # all held but the oldest, whose slot the frame in flight takes
    newest = 0
    try:
        with RingReader(namespace, "s") as reader:
            held = whole_frames(reader, 8)
            newest = held[-1] if held else 0
            require(whole <= set(held) or (operation.may_lose_all and not held), f"a reader finds {held}")
            require(newest <= _FRAMES + 1, f"a reader finds frame {newest}")
    except (RingMissing, RingCorrupt) as error:
        require(operation.may_lose_all, f"the ring is gone: {error}")
    stored = disk_copy.load(directory, namespace, "s")
    require(stored is not None, "the snapshot can't be read")
    assert stored is not None
    require(set(stored.history()) >= whole, f"the snapshot has the frames {stored.history()}")
    stored.close()
    with open_writer(namespace, snapshot_dir=directory) as writer:
        history = writer.history()
        if newest or operation.name in ("restore", "set aside"):
            require(set(history) >= whole, f"the next writer resumes with {history}")
            require(writer.head == max(newest, _FRAMES), f"the next writer resumes at {writer.head}, not {newest}")
            columns = [writer.columns["gauge", (str(i),)].column for i in range(8)]
            require(columns == list(range(8)), f"the next writer has the series in columns {columns}")
        require(not building_path(namespace, "s").exists(), "a half-built segment outlives the next start")
        writer.append([0.0] * writer.column_count, 1, 1)
        disk_copy.take(directory, namespace, "s")
    name = disk_copy.file_of(directory, namespace, "s").name
    left = {path.name for path in directory.iterdir()}
    # One that reaches further than a ring that was begun without it is kept.
    require(left <= {name, f"{name}.before"}, f"beside the snapshot there are {left}")
