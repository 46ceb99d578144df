"""Programs that the tests run in processes of their own: ``python -m tests.shm.children NAME ARGUMENT…``.

What they find wrong they raise: the exit status tells.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from shm.create import create
from shm.errors import NoSpace, RingError, RingMissing, WriterClosed
from shm.files import building_path, lock_path
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter
from tests.rings import GAUGE, append_proof, files_of, in_fork, open_writer


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


def _grow(writer: RingWriter) -> None:
    writer.add_series(GAUGE, ("new",))


def die_while_building(namespace: str) -> None:
    """Leave a half-built segment, as a writer killed before the rename does."""
    create("s", building_path(namespace, "s"), 65536)
    os.kill(os.getpid(), signal.SIGKILL)


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
