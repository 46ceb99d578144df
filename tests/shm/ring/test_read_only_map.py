"""The map of a reader: read-only (I8), copied from by the kernel alone, and of a file with holes not at all (I7)."""

from __future__ import annotations

from pathlib import Path

import pytest

from shm.errors import RingCorrupt
from shm.files import ring_path
from shm.ring.layout import aligned
from shm.ring.reader import RingReader
from tests.rings import append_proof, check, check_all, in_fork, is_replaced, open_writer, punch_hole, sequences

_PAGE = 4096


def rights(path: Path) -> list[str]:
    """Of each map of the file in this process."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    return sorted(line.split()[1] for line in lines if line.endswith(str(path)))


def scratch() -> set[int]:
    """The inodes of the memfds that this process copies into."""
    fds = Path("/proc/self/fd")
    return {fd.stat().st_ino for fd in fds.iterdir() if fd.is_symlink() and "fogmetrics-scratch" in str(fd.readlink())}


def test_a_reader_maps_its_segment_read_only_and_the_writer_maps_it_read_write(namespace: str) -> None:
    path = ring_path(namespace, "s")
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer)
        assert rights(path) == ["rw-s"]
        with RingReader(namespace, "s") as reader:
            assert reader.newest_sequence() == 1
            assert rights(path) == ["r--s", "rw-s"]
        assert rights(path) == ["rw-s"]


@pytest.mark.parametrize("where", ["header", "catalog", "newest slot", "another slot"])
def test_a_hole_beside_a_reader_is_neither_read_nor_filled_and_costs_no_other_ring(namespace: str, where: str) -> None:
    with (
        open_writer(namespace, capacity=64, columns=512) as writer,
        open_writer(namespace, "other", columns=512) as other,
        RingReader(namespace, "s") as reader,
        RingReader(namespace, "other") as beside,
    ):
        append_proof(writer, 64)
        append_proof(other, 8)
        path, header = ring_path(namespace, "s"), writer.header
        assert len(reader.frames(0).sequence) == 60
        newest, another = header.slot_offset(64), header.slot_offset(9)
        starts = {"header": 0, "catalog": _PAGE, "newest slot": newest, "another slot": another}
        punch_hole(path, aligned(starts[where], _PAGE), _PAGE)
        allocated = path.stat().st_blocks
        assert allocated * 512 < header.segment_bytes
        assert (reader.latest(), reader.frame(9), reader.head) == (None, None, 0)
        assert reader.writer.pid == 0
        assert len(reader.frames().sequence) == len(reader.frames(0).sequence) == len(reader.series) == 0
        assert is_replaced(reader)
        with pytest.raises(RingCorrupt, match=r"it has holes|magic is 0x0"):
            RingReader(namespace, "s")
        assert path.stat().st_blocks == allocated, "a reader filled the hole"
        assert sequences(beside) == list(range(1, 9))
        check_all(beside.frames(), 512)
        writer.keep_published()
        with RingReader(namespace, "s") as again:
            assert again.newest_sequence() == (63 if where == "newest slot" else 64)


def test_a_slot_that_is_larger_than_what_is_copied_at_once_is_read(namespace: str) -> None:
    with open_writer(namespace, columns=3, width=200_000) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 8)
        latest = reader.latest()
        assert latest is not None
        check(latest, 3)
        check_all(reader.frames(), 3)
        assert len(reader.frames().sequence) == 4
        assert len(reader.series) == 3


def test_a_fork_copies_into_memory_of_its_own(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer)
        assert reader.newest_sequence() == 1
        ours = scratch()
        assert ours

        def forked() -> None:
            assert reader.newest_sequence() == 1
            assert scratch()
            assert not scratch() & ours

        in_fork(forked)
        assert scratch() == ours
