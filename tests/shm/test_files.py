"""Segments as files: names, permissions, whose they are, and what removes them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from shm.errors import ConfigurationError, NoSpace, RingCorrupt, RingForeign, RingMissing, WriterBusy
from shm.files import (
    attach,
    building_path,
    check_name,
    lock_path,
    ring_path,
    rings_in,
    unlink,
)
from shm.ring.lock import WriterLock
from shm.ring.reader import RingReader
from tests.application import ring_writer
from tests.rings import (
    append_proof,
    become,
    corrupt_path,
    files_of,
    in_fork,
    is_replaced,
    no_room,
    open_writer,
)

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user or group")


def test_the_names_of_a_sources_files_carry_namespace_and_source() -> None:
    assert [str(path("ns", "node")) for path in (ring_path, building_path, lock_path)] == [
        "/dev/shm/fogmetrics.ns.node.ring",
        "/dev/shm/fogmetrics.ns.node.new",
        "/dev/shm/fogmetrics.ns.node.lock",
    ]


@pytest.mark.parametrize("name", ["", "a.b", "a/b", "ä", "a b", "a" * 65, "a\n"])
def test_a_name_that_can_not_be_part_of_a_file_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="letters, digits"):
        check_name("the name of a source", name)


@pytest.mark.parametrize(
    ("file_name", "sources"),
    [
        ("fogmetrics.ns.node.ring", ["node"]),
        ("fogmetrics.ns.node.new", []),
        ("fogmetrics.ns.node.lock", []),
        ("fogmetrics.ns.node.corrupt", []),
        ("fogmetrics.other.node.ring", []),
        ("fogmetrics.ns.a.b.ring", []),
        ("fogmetrics.ns..ring", []),
        (f"fogmetrics.ns.{'x' * 65}.ring", []),
        ("psm_12345", []),
    ],
)
def test_only_published_segments_of_the_namespace_are_rings(file_name: str, sources: list[str]) -> None:
    assert rings_in([file_name], "ns") == sources


def test_a_segment_that_is_not_there_is_missing(namespace: str) -> None:
    with pytest.raises(RingMissing, match="is its collector running"):
        RingReader(namespace, "s")


def test_a_link_a_directory_a_pipe_and_an_empty_file_are_no_segments(namespace: str, tmp_path: Path) -> None:
    with open_writer(namespace, "real", columns=2) as writer:
        append_proof(writer)
    path = ring_path(namespace, "s")
    path.symlink_to(ring_path(namespace, "real"))
    with pytest.raises(RingForeign, match="not a regular file; remove it"):
        RingReader(namespace, "s")
    path.unlink()
    path.mkdir()
    for opened in (RingReader, open_writer):
        with pytest.raises(RingForeign, match="not a regular file; remove it"):
            opened(namespace, "s")
    path.rmdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    with pytest.raises(RingForeign, match="not a regular file; remove it"):
        RingReader(namespace, "s")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(RingForeign, match="not a regular file"):
        RingReader(namespace, "s")
    path.unlink()
    path.touch()
    with pytest.raises(RingCorrupt, match="0 bytes"):
        RingReader(namespace, "s")


def test_a_segment_under_another_sources_name_is_refused(namespace: str) -> None:
    open_writer(namespace, "a", columns=2).close()
    os.rename(ring_path(namespace, "a"), ring_path(namespace, "b"))
    with pytest.raises(RingCorrupt, match="source is 'a'"):
        RingReader(namespace, "b")


@as_root
def test_a_segment_of_another_owner_than_expected_is_refused(namespace: str) -> None:
    open_writer(namespace, columns=2).close()
    os.chown(ring_path(namespace, "s"), 4242, -1)
    with pytest.raises(RingForeign, match="belongs to user 4242, expected 0"):
        RingReader(namespace, "s")
    with pytest.raises(RingForeign):
        open_writer(namespace)
    with RingReader(namespace, "s", owner=4242) as reader:
        assert reader.newest_sequence() == 0


@as_root
def test_another_user_of_the_group_may_read_the_ring_and_nothing_else(namespace: str) -> None:
    with open_writer(namespace, columns=2, group="4243") as writer:
        append_proof(writer)
        assert writer.path.stat().st_gid == 4243
        writer.reserve(100)
        assert writer.path.stat().st_gid == 4243

    def as_another() -> None:
        become(4242, 4243)
        with RingReader(namespace, "s", owner=0) as reader:
            assert reader.newest_sequence() == 1
            for call, more in ((os.unlink, ()), (os.truncate, (0,)), (os.open, (os.O_RDWR,))):
                with pytest.raises(PermissionError):
                    call(reader.path, *more)
        with pytest.raises(RingForeign, match="can't be opened"):
            WriterLock.acquire(lock_path(namespace, "s"), "s")

    in_fork(as_another)


def test_a_start_that_fails_frees_lock_map_and_descriptors(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 5)
    descriptors = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", no_room)
        with pytest.raises(NoSpace):
            open_writer(namespace, capacity=16)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    with RingReader(namespace, "s") as reader:
        assert reader.writer.pid == 0, "a start that failed must not sign the ring"
    with open_writer(namespace) as writer:
        assert writer.head == 5


def test_attaching_in_vain_leaks_no_descriptor(namespace: str) -> None:
    ring_path(namespace, "s").write_bytes(b"x" * 5000)
    descriptors = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(RingCorrupt):
            attach("s", ring_path(namespace, "s"), os.geteuid())
        with pytest.raises(RingCorrupt):
            attach("s", ring_path(namespace, "s"), os.geteuid(), writable=True)
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_lock_that_is_not_a_regular_file_is_refused(namespace: str) -> None:
    os.mkfifo(lock_path(namespace, "s"))
    with pytest.raises(RingForeign, match="not a regular file"):
        open_writer(namespace)


def test_unlink_removes_all_but_the_lock_and_is_refused_while_a_writer_lives(namespace: str) -> None:
    with ring_writer(namespace), pytest.raises(WriterBusy):
        unlink(namespace, "s")
    building_path(namespace, "s").write_bytes(b"litter")
    corrupt_path(namespace, "s").write_bytes(b"litter")
    with RingReader(namespace, "s") as reader:
        assert not is_replaced(reader)
        assert len(unlink(namespace, "s")) == 3
        assert is_replaced(reader)
        assert reader.newest_sequence() == 1
    assert files_of(namespace) == [lock_path(namespace, "s")]
    assert unlink(namespace, "s") == []


def test_the_standard_library_knows_a_segment_as_shared_memory(namespace: str) -> None:
    """In a process of its own: its resource tracker removes the segment when that ends, so much for attaching."""
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer)
        code = (
            "from multiprocessing import shared_memory\n"
            f"segment = shared_memory.SharedMemory({writer.path.name!r})\n"
            "print(bytes(segment.buf[:8]).decode(), segment.size)\n"
            "segment.close()\n"
        )
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert run.stdout.split() == ["FOGRING1", str(writer.header.segment_bytes)]
