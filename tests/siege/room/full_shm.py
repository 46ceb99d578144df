"""A /dev/shm that somebody fills, refusals in it, and rings whose values prove themselves."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable
from typing import Final

import numpy as np

from shm.errors import NoSpace
from shm.files import DIRECTORY
from shm.ring.frame import absent
from shm.ring.reader import RingReader
from shm.ring.windows import GUARD_SLOTS
from tests.rings import files_of
from tests.siege.harness import Violation, require

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
MIB: Final = 1 << 20
SAID: Final = re.compile(
    r"^ring '[^']+': its segment needs (\d+\.\d) MiB of shared memory, but in /dev/shm (\d+\.\d) MiB are free "
    r"\(.+\); make it larger \(docker run --shm-size=256m, or mount -o remount,size=…\), or lower its capacity$"
)


class Filler(contextlib.AbstractContextManager["Filler"]):
    """Fills /dev/shm: whole pages in a file that belongs to no ring."""

    def __init__(self, namespace: str) -> None:
        self._path = DIRECTORY / f"fogmetrics.{namespace}.filler"
        self._file = self._path.open("wb", buffering=0)
        self._end = 0

    def leave(self, size: int) -> None:
        """Take all but ``size`` bytes, if there is as much to take; 0: to the last page."""
        take = (free() - size) // PAGE * PAGE
        if take > 0:
            with contextlib.suppress(OSError):
                os.posix_fallocate(self._file.fileno(), self._end, take)
                self._end += take
        if size == 0:
            with contextlib.suppress(OSError):
                while True:
                    self._end += os.pwrite(self._file.fileno(), bytes(PAGE), self._end)
            assert free() == 0

    def give(self, size: int | None = None) -> None:
        """Give back ``size`` bytes, None: all."""
        self._end = 0 if size is None else max(self._end - size // PAGE * PAGE, 0)
        self._file.truncate(self._end)

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def free() -> int:
    """The free bytes of /dev/shm."""
    status = os.statvfs(DIRECTORY)
    return status.f_bavail * status.f_frsize


def _segments(namespace: str) -> dict[str, tuple[int, str]]:
    """The segments of the namespace, those set aside too, as (inode, checksum of the bytes)."""
    return {
        path.name: (path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files_of(namespace)
        if path.suffix in (".ring", ".corrupt")
    }


def refused(what: str, namespace: str, operation: Callable[[], object], counts: Counter[str]) -> None:
    """Raise Violation unless the operation is refused as I7 promises."""
    require(not granted(what, namespace, operation, counts), f"I7: {what} was accepted, and {free()} bytes are free")


def granted(what: str, namespace: str, operation: Callable[[], object], counts: Counter[str]) -> bool:
    """Whether the operation was granted. A refusal must be as I7 promises: with a full message, and without a trace."""
    before, room = _segments(namespace), free()
    try:
        operation()
    except NoSpace as error:
        said = SAID.match(str(error))
        require(said, f"I7: {what} was refused without what it needs, what is free and the remedy: {error}")
        assert said
        # A reader that closes a segment without a name frees its pages at that moment.
        least, most = sorted((room / MIB, free() / MIB))
        told = least - 0.11 < float(said[2]) < most + 0.11
        require(told, f"I7: {what}: {room / MIB:.2f} MiB were free, then {free() / MIB:.2f}: {error}")
        left = [path.name for path in files_of(namespace) if path.suffix == ".new"]
        require(not left, f"I6: {what} was refused and left {left}")
        require(_segments(namespace) == before, f"I7: {what} was refused, but the segments in use have changed")
        # A lock file may have taken a page.
        require(free() >= room - PAGE, f"I7: {what} was refused, and {room - free()} bytes less are free")
        counts["refusals looked at"] += 1
        return False
    except OSError as error:
        raise Violation(f"I7: {what} began with what was not reserved, and ended in {error!r}") from error
    return True


def read(namespace: str, source: str, newest: int, columns: int, counts: Counter[str]) -> None:
    """Read the whole window: no gap up to ``newest``, and tests.rings.proof in each column, or no sample."""
    with RingReader(namespace, source) as reader:
        frames = reader.frames()
        sequences = frames.sequence.tolist()
        oldest = max(newest - reader.header.capacity + 1 + GUARD_SLOTS, 1)
        require(
            sequences and sequences == list(range(max(oldest, sequences[0]), newest + 1)),
            f"I7: the window of ring {source} to frame {newest} has gaps: {sequences[:3]} to {sequences[-3:]}",
        )
        values = np.ascontiguousarray(frames.values[:, :columns])
        right = frames.sequence.astype(np.float64)[:, None] * 4096 + np.arange(columns)
        missing = absent(values)
        wrong = np.argwhere((values != right) & ~missing)
        require(
            not len(wrong) and not missing.all(axis=1).any(),
            f"I1: ring {source} has other samples than were appended: (row, column) {wrong[:3].tolist()}",
        )
        counts["frames read"] += len(sequences)
