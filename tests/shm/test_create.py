"""Segments as multiprocessing.shared_memory creates them: reserved, of their group, without a resource tracker."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from shm.create import create
from shm.errors import ConfigurationError, NoSpace
from shm.files import building_path
from shm.ring.reader import RingReader
from shm.table.process import ProcessTable
from tests.rings import become, files_of, in_fork, no_room, open_writer, run_python

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user or group")


@as_root
def test_a_group_that_the_user_is_not_in_is_a_configuration_error(namespace: str) -> None:
    def as_another() -> None:
        become(4242, 4242)
        with pytest.raises(ConfigurationError, match="'4243'"):
            open_writer(namespace, group="4243")

    in_fork(as_another)
    assert [path.suffix for path in files_of(namespace)] == [".lock"]


def test_create_reserves_all_of_its_memory_and_replaces_litter(namespace: str) -> None:
    path = building_path(namespace, "s")
    path.write_bytes(b"litter")
    fd, mapped = create("s", path, 1 << 20)
    try:
        status = os.fstat(fd)
        assert status.st_size == 1 << 20
        assert status.st_blocks * 512 >= 1 << 20
        assert mapped[:] == bytes(1 << 20)
    finally:
        mapped.close()
        os.close(fd)
        path.unlink()


def test_more_than_the_host_has_memory_for_is_refused_however_large_shared_memory_is(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    meminfo = tmp_path / "meminfo"
    monkeypatch.setattr("shm.create._MEMINFO", meminfo)
    path = building_path(namespace, "node")
    meminfo.write_text("MemTotal: 9000 kB\nMemAvailable: 1000 kB\n")
    with pytest.raises(NoSpace, match=r"needs 0\.8 MiB .* at most 0\.8 MiB, 80% of .*; lower its capacity"):
        create("node", path, 800 * 1024 + 1)
    assert not path.exists()
    for text in ("MemTotal: 9000 kB\n", "MemAvailable: much\n", "MemAvailable:\n", "MemAvailable: 1001 kB\n"):
        meminfo.write_text(text)
        fd, memory = create("node", path, 800 * 1024 + 1)
        memory.close()
        os.close(fd)
    path.unlink()


def overflows(*arguments: object) -> None:
    raise OverflowError("signed integer is greater than maximum")


@pytest.mark.parametrize(
    ("call", "fails", "error", "says"),
    [
        ("posix_fallocate", no_room, NoSpace, r"needs 1\.0 MiB"),
        *((call, overflows, OverflowError, "signed integer") for call in ("posix_fallocate", "fchmod", "open")),
    ],
)
def test_create_leaves_nothing_behind_whatever_it_fails_of(
    namespace: str, monkeypatch: pytest.MonkeyPatch, call: str, fails: object, error: type[Exception], says: str
) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, call, fails)
        with pytest.raises(error, match=says):
            create("s", building_path(namespace, "s"), 1 << 20)
    assert files_of(namespace) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_segment_outlives_its_writer_and_starts_no_resource_tracker(namespace: str) -> None:
    program = f"""
import os, signal
from pathlib import Path
from tests.rings import append_proof, open_writer
with open_writer({namespace!r}, columns=2) as writer:
    append_proof(writer)
    writer.reserve(100)  # a second segment replaces the first
    children = Path(f"/proc/self/task/{{os.getpid()}}/children").read_text()
    opened = [path.readlink().name for path in Path("/proc/self/fd").iterdir() if int(path.name) > 2 and path.exists()]
    print(repr(children), [name for name in opened if "pipe" in name], flush=True)
    from multiprocessing import resource_tracker, shared_memory
    assert shared_memory.resource_tracker is resource_tracker, "the standard library's own module was changed"
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_python(program, status=-signal.SIGKILL) == "'' []\n"
    with RingReader(namespace, "s") as reader:
        assert reader.newest_sequence() == 1


def test_the_remedy_for_a_full_shared_memory_is_one_that_a_ring_or_a_table_has(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.posix_fallocate", no_room)
    with pytest.raises(NoSpace, match=r"or lower its capacity$"):
        open_writer(namespace)
    with pytest.raises(NoSpace, match=r"or count fewer series$"):
        ProcessTable(namespace, "web")
