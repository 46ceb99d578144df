"""Programs that the tests run in processes of their own: ``python -m tests.shm.children NAME ARGUMENT…``.

What they find wrong they raise: the exit status tells.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import shm
from shm.create import create
from shm.errors import NoSpace, RingError, RingMissing, WriterClosed
from shm.files import building_path, lock_path, unlink
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter
from tests.rings import GAUGE, append_proof, check, files_of, open_writer, sequences

SHM = str(Path(shm.__file__).parent)


def say(text: object) -> None:
    print(text, flush=True)


def write_flat_out(namespace: str, capacity: str, columns: str) -> None:
    """Append until killed."""
    writer = open_writer(namespace, capacity=int(capacity), columns=int(columns))
    say(writer.head)
    while True:
        append_proof(writer, 100)


def hold_writer(namespace: str) -> None:
    """Open a writer, append a frame, wait for a line, close."""
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer)
        say(os.getpid())
        sys.stdin.readline()


def hold_reader(namespace: str) -> None:
    """Open a reader, wait for a line, close."""
    with RingReader(namespace, "s") as reader:
        assert reader.latest() is not None
        say("mapped")
        sys.stdin.readline()


def hold_writer_with_fork(namespace: str) -> None:
    """Open a writer and fork; both wait for ever."""
    open_writer(namespace, columns=2)
    forked = os.fork()
    if forked:
        say(forked)
    time.sleep(300)


def fork_and_append(namespace: str) -> None:
    """A fork of the writer is refused, may write a ring of its own, and its end does not end its parent's lock."""
    writer = open_writer(namespace, columns=2)
    append_proof(writer)

    def forked() -> None:
        uses: list[Callable[[], object]] = [
            lambda: append_proof(writer), writer.beat, lambda: writer.reserve(100), lambda: _grow(writer),
        ]  # fmt: skip
        for use in uses:
            with pytest.raises(WriterClosed, match="fork"):
                use()
        with open_writer(namespace, "child", columns=2) as own:
            append_proof(own, 3)
        writer.close()

    in_fork(forked)
    append_proof(writer)
    assert writer.head == 2
    pid_word = RingReader(namespace, "s").writer.pid
    assert pid_word == os.getpid(), "the fork signed its parent's ring off"
    say("ok")
    sys.stdin.readline()


def hand_over_to_fork(namespace: str) -> None:
    """A fork of the writer takes the ring once its parent has let go of it."""
    writer = open_writer(namespace, columns=2)
    append_proof(writer)
    closed, close = os.pipe()
    forked = os.fork()
    if not forked:
        os.close(close)
        os.read(closed, 1)  # ends when the parent closes its end
        status = 1
        try:
            with open_writer(namespace) as own:
                append_proof(own)
                status = 0 if own.head == 2 else 2
        finally:
            os._exit(status)
    writer.close()
    os.close(close)
    assert os.waitpid(forked, 0)[1] == 0


def in_fork(function: Callable[[], Any]) -> None:
    forked = os.fork()
    if not forked:
        try:
            function()
        except BaseException as error:  # noqa: BLE001 -- nothing may leave the fork but its status
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(forked, 0)
    assert status == 0, status


def die_at_lines(namespace: str, what: str, step: str) -> None:
    """SIGKILL a writer at every ``step``-th line that ``what`` runs, one fork for each; check what it leaves."""
    operation = {"append": append_proof, "grow": _grow}[what]
    for k in range(1, 100_000, int(step)):
        unlink(namespace, "s")
        with open_writer(namespace, columns=8) as writer:
            append_proof(writer, 12)
        forked = os.fork()
        if not forked:
            _die_at_line(namespace, operation, k)
        _, status = os.waitpid(forked, 0)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 42, f"the writer failed at line {k}"
            say(k - 1)
            return
        _check_after_death(namespace, k, at_most_lost=1 if what == "append" else 0)


def _grow(writer: RingWriter) -> None:
    writer.add_series(GAUGE, ("new",))


def _die_at_line(namespace: str, operation: Callable[[RingWriter], None], k: int) -> None:
    lines = 0

    def trace(frame: types.FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(SHM):
            return None
        if event == "line":
            lines += 1
            if lines == k:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    try:
        writer = RingWriter(namespace, "s", interval_ns=15_000_000_000, capacity=8)
        sys.settrace(trace)
        operation(writer)
        sys.settrace(None)
        os._exit(42)
    finally:
        os._exit(1)


def _check_after_death(namespace: str, k: int, at_most_lost: int) -> None:
    with RingReader(namespace, "s") as reader:
        newest = reader.newest_sequence()
        held = sequences(reader)
        assert newest in (12, 13), (k, newest)
        # Frame 13 takes the slot of frame 5: one of the eight slots may be in flight.
        assert set(held) >= set(range(6, 13)), (k, held)
        assert len(held) >= 8 - at_most_lost, (k, held)
        for sequence in held:
            frame = reader.frame(sequence)
            assert frame is not None
            check(frame, 8)
    with RingWriter(namespace, "s", interval_ns=15_000_000_000, capacity=8) as writer:
        assert not building_path(namespace, "s").exists(), k
        assert writer.head == newest, (k, writer.head, newest)
        assert set(writer.history()) >= set(range(6, 13)), (k, writer.history())
        append_proof(writer)
        assert writer.head == newest + 1
        assert [writer.columns["gauge", (str(i),)].column for i in range(8)] == list(range(8)), k
    with RingReader(namespace, "s") as reader:
        assert reader.newest_sequence() == newest + 1


def die_while_building(namespace: str) -> None:
    """Leave a half-built segment, as a writer killed before the rename does."""
    create("s", building_path(namespace, "s"), 65536)
    os.kill(os.getpid(), signal.SIGKILL)


def fill_small_shm(namespace: str) -> None:
    """In a /dev/shm of 2 MiB: no room is a clear error at start and at growth, and never a SIGBUS."""
    assert os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize == 2 << 20
    with pytest.raises(NoSpace, match=r"needs 4\.9 MiB .* 2\.0 MiB are free .*--shm-size.*lower its capacity"):
        open_writer(namespace, "large", capacity=5760, width=100)
    assert files_of(namespace) == [lock_path(namespace, "large")]

    # 1.1 MiB fit, but not twice: growth is refused, and the ring in use goes on.
    writer = open_writer(namespace, capacity=1000, columns=128)
    append_proof(writer, 1100)
    with contextlib.suppress(OSError), open("/dev/shm/filler", "wb", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    before = files_of(namespace)
    with pytest.raises(NoSpace, match=r"needs 1\.5 MiB .* 0\.0 MiB are free"):
        writer.add_series(GAUGE, ("one too many",))
    assert files_of(namespace) == before
    append_proof(writer, 1100)
    with RingReader(namespace, "s") as reader:
        assert not reader.replaced
        frame = reader.latest()
        assert frame is not None
        assert frame.sequence == 2200
        check(frame, 128)
        assert len(reader.frames().sequence) == 996
    writer.close()
    # A writer that starts where there is no page for its pid resumes all the same.
    lock_path(namespace, "s").unlink()
    with contextlib.suppress(OSError), open("/dev/shm/filler", "ab", buffering=0) as filler:
        while True:
            filler.write(bytes(4096))
    with RingWriter(namespace, "s", interval_ns=15_000_000_000, capacity=1000) as writer:
        assert writer.head == 2200
        append_proof(writer)


def exceed_file_size(namespace: str) -> None:
    """With RLIMIT_FSIZE below the segment: NoSpace, and nothing left but the lock."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
    with pytest.raises(NoSpace, match=rf"needs 4\.9 MiB .*{os.strerror(errno.EFBIG)}"):
        open_writer(namespace, capacity=5760, width=100)
    assert files_of(namespace) == [lock_path(namespace, "s")]


def read_only(namespace: str) -> None:
    """A reader starts no process (a resource tracker would unlink the ring), also where attaching fails."""
    with RingReader(namespace, "s") as reader:
        assert reader.latest() is not None
        reader.frames()
        with pytest.raises(RingMissing):
            RingReader(namespace, "nobody")
        assert children_of(os.getpid()) == []
    assert "multiprocessing.resource_tracker" not in sys.modules or not _tracker_runs()


def _tracker_runs() -> bool:
    from multiprocessing import resource_tracker

    return resource_tracker._resource_tracker._pid is not None  # type: ignore[attr-defined]


def fail_to_attach(namespace: str) -> None:
    """No address space for a map: an error for writer and reader; the segment stays (SharedMemory would unlink it)."""
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), resource.RLIM_INFINITY))
    with pytest.raises(RingError, match="can't be mapped"):
        RingWriter(namespace, "s", interval_ns=15_000_000_000, capacity=4000)
    with pytest.raises(RingError, match="can't be mapped"):
        RingReader(namespace, "s")


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
