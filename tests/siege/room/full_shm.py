"""What the programs of the check ``room`` share, in a /dev/shm of their own that is soon full.

One scenario after the other: :mod:`tests.siege.room.refusals`. At random: :mod:`tests.siege.room.disorder`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import subprocess
import sys
import tempfile
from array import array
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from shm.errors import NoSpace
from shm.files import DIRECTORY, ring_path
from shm.metric import Metric
from shm.ring.layout import STALE_NAN_BITS
from shm.ring.reader import Frame, RingReader
from shm.ring.windows import GUARD_SLOTS
from shm.ring.writer import RingWriter
from tests.rings import INTERVAL_NS, SECOND_NS, files_of
from tests.siege.harness import ROOT, require
from tests.siege.processes import ended, environ

PAGE: Final = os.sysconf("SC_PAGE_SIZE")
MIB: Final = 1 << 20
ABSENT: Final = array("d", STALE_NAN_BITS.to_bytes(8, "little"))
SAID: Final = re.compile(
    r"^ring '[^']+': its segment needs (\d+\.\d) MiB of shared memory, but in /dev/shm (\d+\.\d) MiB are free "
    r"\(.+\); make it larger \(docker run --shm-size=256m, or mount -o remount,size=…\), or lower its capacity$"
)
NUMBER: Final = Metric("number", "gauge", "A value that tells its series and its frame.", "", ("of",))


class Filler:
    """Somebody else who fills /dev/shm: whole pages in a file of no ring."""

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

    def __enter__(self) -> Filler:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)


def free() -> int:
    """Bytes that /dev/shm still has."""
    status = os.statvfs(DIRECTORY)
    return status.f_bavail * status.f_frsize


def state(namespace: str) -> dict[str, tuple[int, str]]:
    """The segments of the namespace, those set aside too, as (inode, what is in them)."""
    return {
        path.name: (path.stat().st_ino, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files_of(namespace)
        if path.suffix in (".ring", ".corrupt")
    }


def refused(what: str, namespace: str, operation: Callable[[], object], counts: Counter[str]) -> None:
    """Fails unless the operation is refused as I7 wants it: one sentence, and nothing touched, kept or left."""
    require(tries(what, namespace, operation, counts), f"I7: {what} was accepted, and {free()} bytes are free")


def tries(what: str, namespace: str, operation: Callable[[], object], counts: Counter[str]) -> bool:
    """Whether the operation was refused for want of room; fails when it was, but not as I7 wants it."""
    before, room = state(namespace), free()
    try:
        operation()
    except NoSpace as error:
        said = SAID.match(str(error))
        require(said, f"I7: {what} was refused without saying what it needs, what there is and what helps: {error}")
        assert said
        # A reader that lets go of a segment without a name gives its pages back at that moment.
        least, most = sorted((room / MIB, free() / MIB))
        told = least - 0.11 < float(said[2]) < most + 0.11
        require(told, f"I7: {what}: {room / MIB:.2f} MiB were free, then {free() / MIB:.2f}: {error}")
        left = [path.name for path in files_of(namespace) if path.suffix == ".new"]
        require(not left, f"I6: {what} was refused and left {left}")
        require(state(namespace) == before, f"I7: {what} was refused, but the segments in use are not as they were")
        # A lock file may have taken a page; its pages are what a refusal must give back.
        require(free() >= room - PAGE, f"I7: {what} was refused, and {room - free()} bytes less are free")
        counts["refused"] += 1
        return True
    except OSError as error:
        require(False, f"I7: {what} began with what was not reserved, and ended in {error!r}")
    counts["granted"] += 1
    return False


# ---- rings whose series prove themselves, wherever their columns move ------------------------------------------


def opened(namespace: str, source: str, capacity: int, columns: int = 0) -> RingWriter:
    writer = RingWriter(namespace, source, interval_ns=INTERVAL_NS, capacity=capacity, width=max(columns, 8))
    for number in range(columns):
        writer.add_series(NUMBER, (str(number),))
    return writer


def value(sequence: int, label: str) -> float:
    return float(sequence * 4096 + int(label.lstrip("0") or 0))


def append(writer: RingWriter, frames: int = 1, known: Callable[[int], bool] = lambda number: True) -> None:
    """Frames with a sample of each series whose number is ``known``."""
    for sequence in range(writer.head + 1, writer.head + 1 + frames):
        row = ABSENT * writer.column_count
        for (_, labels), series in writer.columns.items():
            if known(int(labels[0])):
                row[series.column] = value(sequence, labels[0])
        writer.append(row, sequence * SECOND_NS, sequence)


def read(namespace: str, source: str, newest: int, held: int | None = None) -> int:
    """Read all of the ring, as latest frame and as window; how many frames were right.

    ``held``: how many it must hold, where that is known.
    """
    with RingReader(namespace, source) as reader:
        frame = reader.latest()
        found = frame.sequence if frame else 0
        require(found == newest, f"I7: ring {source} was appended up to {newest}, and is read up to {found}")
        if frame is not None:
            right(reader, frame)
        sequences = reader.frames().sequence.tolist()
        wanted = list(range(max(newest - reader.header.capacity + 1 + GUARD_SLOTS, 1), newest + 1))
        require(
            sequences == wanted[-len(sequences) :] if sequences else newest == 0,
            f"I7: the window of ring {source} has gaps: {sequences[:3]} to {sequences[-3:]}",
        )
        if held is not None:
            whole = min(held, reader.header.capacity - GUARD_SLOTS)
            require(len(sequences) == whole, f"I3: ring {source} has {len(sequences)} frames to read, not {whole}")
        for sequence in sequences[:: max(len(sequences) // 50, 1)]:
            one = reader.frame(sequence)
            require(one is not None, f"I1: frame {sequence} of ring {source} is not whole")
            assert one is not None
            right(reader, one)
        return len(sequences)


def right(reader: RingReader, frame: Frame) -> None:
    for series in reader.series:
        if series.metric != NUMBER:
            continue
        sample = frame.value(series.column)
        require(
            sample is None or sample == value(frame.sequence, series.label_values[0]),
            f"I1: frame {frame.sequence} of ring {reader.source} has {sample} for {series.label_values[0][-20:]}",
        )


def hollow(namespace: str, source: str, of: str) -> Path:
    """A copy of a ring whose slots are a hole: what a writer without fallocate would have made."""
    path = ring_path(namespace, source)
    data = ring_path(namespace, of).read_bytes()
    with path.open("wb") as file:
        file.write(data[:PAGE])
        file.truncate(len(data))
    return path


# ---- programs beside us ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def beside(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A program of ours in the same /dev/shm while the block runs; fails when a signal ends it."""
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=ROOT, env=environ(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finished(process: subprocess.Popen[str], what: str, status: int = 0) -> tuple[str, str]:
    """What it printed, on output and on error; fails unless it ended with that status."""
    try:
        out, said = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        raise AssertionError(f"{what} did not end within 60 s") from None
    require(process.returncode == status, f"I7: {what} {ended(process.returncode) or 'ended well'}: {said[-800:]}")
    return out, said


@contextlib.contextmanager
def configured(namespace: str, **shm: Any) -> Iterator[str]:
    """The path of a configuration file."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "fogmetrics.toml"
        keys = "".join(f"{key} = {value!r}\n" for key, value in shm.items())
        path.write_text(f'[shm]\nnamespace = "{namespace}"\n{keys}[collector]\ninterval_seconds = 0.1\n')
        yield str(path)
