"""Rings for tests: a namespace of its own for each test, and frames that prove themselves."""

from __future__ import annotations

import ctypes
import errno
import itertools
import os
import signal
import subprocess
import sys
import traceback
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shm.errors import RingError
from shm.files import DIRECTORY, ring_path
from shm.metric import Metric
from shm.ring.reader import Frame, Frames, RingReader
from shm.ring.writer import RingWriter

ROOT = Path(__file__).resolve().parent.parent
SECOND_NS = 1_000_000_000
INTERVAL_NS = 15 * SECOND_NS
GAUGE = Metric("gauge", "gauge", "A value that proves itself.", "", ("column",))

_counter = itertools.count(1)


@pytest.fixture
def namespace() -> Iterator[str]:
    """A namespace that no other test has; nothing of it is left in /dev/shm afterwards."""
    name = f"t{os.getpid()}-{next(_counter)}"
    yield name
    left = files_of(name)
    for path in left:
        path.unlink()
    assert not [path.name for path in left if path.suffix == ".new"], "a half-built segment was left behind"


@pytest.fixture
def toml(tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration file for that namespace, of collectors that are quick. Its last table is [shm]."""
    monkeypatch.delenv("FOGMETRICS_NAMESPACE", raising=False)
    path = tmp_path / "fogmetrics.toml"
    path.write_text(f'[collector]\ninterval_seconds = 0.2\n[shm]\nnamespace = "{namespace}"\n')
    return path


def corrupt_path(namespace: str, source: str) -> Path:
    """Where a writer sets a ring aside that it can't read."""
    return ring_path(namespace, source).with_suffix(".corrupt")


def files_of(namespace: str) -> list[Path]:
    return sorted(DIRECTORY.glob(f"fogmetrics.{namespace}.*"))


def remove_files_of(namespace: str) -> None:
    for path in files_of(namespace):
        path.unlink()


def proof(sequence: int, columns: int) -> array[float]:
    """The values of a frame, each told by sequence and column, so that a mixture of two frames shows."""
    return array("d", range(sequence * 4096, sequence * 4096 + columns))


def check(frame: Frame, columns: int) -> None:
    """Fails unless the frame is exactly what append_proof() appended under its sequence."""
    assert frame.timestamp_ns == frame.sequence * SECOND_NS
    assert frame.monotonic_ns == frame.sequence
    assert frame.count == columns
    assert list(frame.values[:columns]) == list(proof(frame.sequence, columns))


def check_all(frames: Frames, columns: int) -> None:
    """The same for a window."""
    assert sorted(set(frames.sequence.tolist())) == frames.sequence.tolist()
    for i, sequence in enumerate(frames.sequence.tolist()):
        assert frames.timestamp_ns[i] == sequence * SECOND_NS
        assert frames.monotonic_ns[i] == sequence
        assert frames.values[i, :columns].tolist() == list(proof(sequence, columns))


def open_writer(
    namespace: str, source: str = "s", *, capacity: int = 8, columns: int = 0, width: int = 8, group: str = "",
    snapshot_dir: Path | None = None,
) -> RingWriter:  # fmt: skip
    """A writer whose first ``columns`` columns are series of GAUGE."""
    writer = RingWriter(
        namespace, source, interval_ns=INTERVAL_NS, capacity=capacity, width=max(width, columns), group=group,
        snapshot_dir=snapshot_dir,
    )  # fmt: skip
    for column in range(columns):
        writer.add_series(GAUGE, (str(column),))
    return writer


def append_proof(writer: RingWriter, frames: int = 1) -> None:
    for sequence in range(writer.head + 1, writer.head + 1 + frames):
        writer.append(proof(sequence, writer.column_count), sequence * SECOND_NS, sequence)


def overwrite(path: Path, at: int, data: bytes) -> None:
    """Damage a file: other bytes from the offset ``at`` on."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


def no_room(*arguments: object, **keywords: object) -> int:
    """In place of a system call: it fails for want of space."""
    raise OSError(errno.ENOSPC, "No space left on device")


def punch_hole(path: Path, start: int, size: int) -> None:
    """Free a part of the file, which keeps its size."""
    with path.open("r+b") as file:
        numbers = ctypes.c_long(start), ctypes.c_long(size)
        if ctypes.CDLL(None, use_errno=True).fallocate(file.fileno(), _KEEP_SIZE | _PUNCH_HOLE, *numbers):
            raise OSError(ctypes.get_errno(), "fallocate", str(path))


_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # linux/falloc.h


def frame_of(ring: RingReader | RingWriter, sequence: int) -> Frame:
    """The frame of that number, which the ring must hold."""
    frame = ring.frame(sequence)
    assert frame is not None, f"no frame {sequence}"
    return frame


def whole_frames(reader: RingReader, columns: int) -> list[int]:
    """The sequences of the whole frames, each of which is what append_proof() appended."""
    found = sequences(reader)
    for sequence in found:
        check(frame_of(reader, sequence), columns)
    return found


def newest_sequence(namespace: str, source: str) -> int:
    """The newest frame's number; 0 while there is no ring."""
    try:
        with RingReader(namespace, source) as reader:
            return reader.newest_sequence()
    except RingError:
        return 0


def newest(namespace: str, source: str) -> dict[tuple[str, ...], list[float | None]]:
    """The columns of each series in the newest frame, by the metric's name and the label values."""
    with RingReader(namespace, source) as reader:
        frame = reader.latest()
        assert frame is not None
        return {
            (one.metric.name, *one.label_values): [frame.value(column) for column in range(one.column, one.end)]
            for one in reader.series
        }


def held(namespace: str, source: str, metric: str, *label_values: str) -> list[float]:
    """The samples of a series that the ring holds, oldest first: of a histogram the raw ones."""
    with RingReader(namespace, source) as reader:
        [series] = [one for one in reader.series if (one.metric.name, one.label_values) == (metric, label_values)]
        return [value for value in reader.frames().values[:, series.column].tolist() if value == value]


def put_word(writer: RingWriter, number: int, value: int) -> None:
    """Store one of the header's words, as damage or stores that arrive out of order would."""
    writer._segment.put(8 * number, value)


def sequences(reader: RingReader) -> list[int]:
    """The whole frames, guard slots included, oldest first."""
    newest = reader.newest_sequence()
    return [s for s in range(max(newest - reader.header.capacity + 1, 1), newest + 1) if reader.frame(s) is not None]


def is_replaced(reader: RingReader) -> bool:
    """reader.replaced by a call: of a property, mypy takes the first answer for all that follow."""
    return reader.replaced


def in_fork(work: Callable[[], object]) -> int:
    """Run it in a fork that ends without a word; its pid. Fails with its error if it raises."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # it does not outlive its test
        try:
            work()
        except BaseException:  # noqa: BLE001 - the parent sees it
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    return pid


def become(user: int, group: int) -> None:
    """In a fork of root: another user, of that group alone."""
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)


def run_python(code: str, status: int = 0) -> str:
    """The output of a Python process that runs the code, prints no error, and ends with the status."""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert (run.returncode, run.stderr) == (status, "")
    return run.stdout
