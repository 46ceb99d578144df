"""A snapshot holds the ring's history and gives it back when shared memory was emptied; whatever happens to either."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from shm.errors import ConfigurationError, NoSpace, RingCorrupt, RingMissing
from shm.files import ring_path
from shm.ring import disk_copy
from shm.ring.layout import SLOT_PAYLOAD
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter
from tests.rings import GAUGE, INTERVAL_NS, append_proof, no_room, open_writer, overwrite, whole_frames


def reopen(namespace: str, directory: Path, capacity: int = 8) -> RingWriter:
    return RingWriter(namespace, "s", interval_ns=INTERVAL_NS, capacity=capacity, snapshot_dir=directory)


def restored(namespace: str, directory: Path, columns: int, capacity: int = 8) -> list[int]:
    """Empty shared memory, start a writer; the sequences that a reader then has, each of them checked."""
    ring_path(namespace, "s").unlink(missing_ok=True)
    with reopen(namespace, directory, capacity) as writer, RingReader(namespace, "s") as reader:
        held = whole_frames(reader, columns)
        assert writer.resumed == len(held)
        assert writer.history() == held
        return held


def taken(namespace: str, directory: Path, frames: int, columns: int = 1, capacity: int = 8) -> Path:
    """The snapshot of a ring with so many frames, whose writer has ended."""
    with open_writer(namespace, columns=columns, capacity=capacity) as writer:
        append_proof(writer, frames)
        disk_copy.take(directory, namespace, "s")
    return disk_copy.file_of(directory, namespace, "s")


def test_the_history_comes_back_when_shared_memory_was_emptied(namespace: str, tmp_path: Path) -> None:
    with open_writer(namespace, columns=3) as writer:
        append_proof(writer, 11)
        assert disk_copy.take(tmp_path, namespace, "s") == writer.header.segment_bytes
    assert restored(namespace, tmp_path, 3) == list(range(4, 12))
    with reopen(namespace, tmp_path) as writer:
        append_proof(writer)
        assert writer.head == 12, "numbers go on where they ended"
        assert [key[1] for key in writer.columns] == [("0",), ("1",), ("2",)]


def test_a_snapshot_is_the_users_own_file_and_nothing_is_left_beside_it(namespace: str, tmp_path: Path) -> None:
    directory = tmp_path / "new" / "snapshots"
    with open_writer(namespace, columns=1) as writer:
        append_proof(writer)
        for _ in range(2):
            disk_copy.take(directory, namespace, "s")
    [file] = directory.iterdir()
    assert file == disk_copy.file_of(directory, namespace, "s")
    assert (file.stat().st_mode & 0o777, directory.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_ring_in_shared_memory_goes_before_its_snapshot(namespace: str, tmp_path: Path) -> None:
    with open_writer(namespace, columns=1) as writer:
        append_proof(writer, 3)
        disk_copy.take(tmp_path, namespace, "s")
        append_proof(writer, 2)
    with reopen(namespace, tmp_path) as writer:
        assert writer.history() == [1, 2, 3, 4, 5]


def test_a_configuration_that_changed_meanwhile_shapes_the_restored_ring(namespace: str, tmp_path: Path) -> None:
    taken(namespace, tmp_path, 16, columns=2, capacity=16)
    assert restored(namespace, tmp_path, 2, capacity=8) == list(range(9, 17))


def test_a_frame_that_was_being_written_while_it_was_copied_is_left_out(namespace: str, tmp_path: Path) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 6)
        writer._segment.bytes[writer.header.slot_offset(4) + SLOT_PAYLOAD + 40] ^= 1
        disk_copy.take(tmp_path, namespace, "s")
    assert restored(namespace, tmp_path, 2) == [1, 2, 3, 5, 6]


def test_a_catalog_that_grew_while_the_slots_were_copied_names_their_columns(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writer(namespace, columns=2, width=8) as writer:
        append_proof(writer, 3)
        copy = disk_copy._copy

        def grow_between(source: str, ring: int, disk: int, start: int, end: int) -> None:
            if start == 0:
                writer.add_series(GAUGE, ("late",))
                append_proof(writer)
            copy(source, ring, disk, start, end)

        monkeypatch.setattr(disk_copy, "_copy", grow_between)
        disk_copy.take(tmp_path, namespace, "s")
    ring_path(namespace, "s").unlink()
    with reopen(namespace, tmp_path) as writer:
        assert [key[1] for key in writer.columns] == [("0",), ("1",), ("late",)]
        assert writer.history() == [1, 2, 3]


@pytest.mark.parametrize("size", [0, 100, 4096, 5000])
def test_a_snapshot_cut_short_is_set_aside_and_the_ring_begins_empty(
    namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    file = taken(namespace, tmp_path, 1)
    os.truncate(file, size)
    ring_path(namespace, "s").unlink()
    with reopen(namespace, tmp_path) as writer:
        assert writer.head == 0
    assert [path.name for path in tmp_path.iterdir()] == [f"{file.name}.corrupt"]
    assert "snapshot set aside" in caplog.messages


def test_a_snapshot_of_another_layout_is_set_aside_by_name_and_an_earlier_one_kept(
    namespace: str, tmp_path: Path
) -> None:
    for _ in range(2):
        file = taken(namespace, tmp_path, 1)
        overwrite(file, 8, b"\x07")
        ring_path(namespace, "s").unlink()
        with reopen(namespace, tmp_path) as writer:
            assert writer.head == 0
        ring_path(namespace, "s").unlink()
    assert {path.name for path in tmp_path.iterdir()} == {f"{file.name}.layout-7", f"{file.name}.layout-7-1"}


def test_a_snapshot_that_is_a_link_is_refused_and_left(
    namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = disk_copy.file_of(tmp_path, namespace, "s")
    file.symlink_to(tmp_path / "elsewhere")
    with reopen(namespace, tmp_path) as writer:
        assert writer.head == 0
    assert file.is_symlink()
    assert "snapshot refused" in caplog.messages


def test_a_snapshot_that_fails_leaves_the_one_before(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 5)
        disk_copy.take(tmp_path, namespace, "s")
        append_proof(writer, 5)
        before = disk_copy.file_of(tmp_path, namespace, "s").read_bytes()
        for name in ("fsync", "pwrite", "rename"):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, no_room)
                with pytest.raises(OSError, match="No space"):
                    disk_copy.take(tmp_path, namespace, "s")
            assert disk_copy.file_of(tmp_path, namespace, "s").read_bytes() == before
            assert len(list(tmp_path.iterdir())) == 1
        ring_path(namespace, "s").unlink()
        with pytest.raises(RingMissing):
            disk_copy.take(tmp_path, namespace, "s")
    assert restored(namespace, tmp_path, 2) == [1, 2, 3, 4, 5]


def test_a_ring_cut_short_while_it_is_copied_is_no_snapshot(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer)
        create = disk_copy._create

        def cut(path: Path) -> int:
            os.truncate(ring_path(namespace, "s"), 5000)
            return create(path)

        monkeypatch.setattr(disk_copy, "_create", cut)
        with pytest.raises(RingCorrupt, match="cut short while its snapshot was taken"):
            disk_copy.take(tmp_path, namespace, "s")
        writer.keep_published()
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_no_room_for_the_restored_ring_the_snapshot_stays(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(namespace, tmp_path, 2)
    ring_path(namespace, "s").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", no_room)
        with pytest.raises(NoSpace):
            reopen(namespace, tmp_path)
    assert restored(namespace, tmp_path, 1) == [1, 2]


def test_a_snapshot_without_a_whole_collection_is_restored_with_the_times_that_it_has(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shm.ring.lifecycle._boot_id", lambda: b"a" * 16)
    with open_writer(namespace, columns=1) as writer:
        writer.append([1.0], 5, 6, flags=0)
        disk_copy.take(tmp_path, namespace, "s")
    ring_path(namespace, "s").unlink()
    monkeypatch.setattr("shm.ring.lifecycle._boot_id", lambda: b"b" * 16)
    with reopen(namespace, tmp_path) as writer:
        frame = writer.frame(1)
        assert frame is not None
        assert (frame.timestamp_ns, frame.monotonic_ns) == (5, 6)


def test_unlink_removes_all_that_there_is_of_a_sources_snapshots(namespace: str, tmp_path: Path) -> None:
    names = ["s.snapshot", "s.snapshot.new", "s.snapshot.corrupt", "s.snapshot.layout-2", "t.snapshot"]
    for name in names:
        (tmp_path / f"fogmetrics.{namespace}.{name}").touch()
    (tmp_path / "another file").touch()
    assert len(disk_copy.unlink(tmp_path, namespace, "s")) == 4
    assert len(disk_copy.unlink(tmp_path, namespace)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["another file"]


@pytest.fixture(autouse=True)
def _all_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


# ---- more than one, and what must not be lost between them ---------------------------------------------------------


def test_a_second_one_at_the_same_time_is_refused_and_the_first_is_whole(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 5)
        copy = disk_copy._copy
        refused = []

        def meanwhile(source: str, ring: int, disk: int, start: int, end: int) -> None:
            with monkeypatch.context() as patch:
                patch.setattr(disk_copy, "_copy", copy)
                with pytest.raises(BlockingIOError):
                    disk_copy.take(tmp_path, namespace, "s")
            refused.append(start)
            copy(source, ring, disk, start, end)

        with monkeypatch.context() as patch:
            patch.setattr(disk_copy, "_copy", meanwhile)
            disk_copy.take(tmp_path, namespace, "s")
        assert len(refused) == 2
    assert restored(namespace, tmp_path, 2) == [1, 2, 3, 4, 5]


def test_what_a_taker_left_that_was_killed_is_taken_over(namespace: str, tmp_path: Path) -> None:
    left = disk_copy.file_of(tmp_path, namespace, "s").with_suffix(".snapshot.new")
    left.write_bytes(b"half of one" * 1000)
    taken(namespace, tmp_path, 2, columns=2)
    assert not left.exists()
    assert restored(namespace, tmp_path, 2) == [1, 2]


def test_a_link_under_the_name_that_is_written_is_not_followed(namespace: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("whole")
    link = disk_copy.file_of(tmp_path, namespace, "s").with_suffix(".snapshot.new")
    with open_writer(namespace, columns=1):
        link.symlink_to(victim)
        with pytest.raises(OSError, match="symbolic links"):
            disk_copy.take(tmp_path, namespace, "s")
        link.unlink()
        os.link(victim, link)
        with pytest.raises(PermissionError, match="not a regular file of this user"):
            disk_copy.take(tmp_path, namespace, "s")
    assert victim.read_text() == "whole"


@pytest.mark.parametrize("accident", ["refused", "not mounted yet"])
def test_a_snapshot_that_reaches_further_than_the_ring_is_kept_under_another_name(
    namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, accident: str
) -> None:
    file = taken(namespace, tmp_path, 6)
    whole = file.read_bytes()
    ring_path(namespace, "s").unlink()
    elsewhere = tmp_path / "elsewhere"
    if accident == "refused":
        os.chown(file, 4242, -1)
    else:
        file.rename(elsewhere)
    with reopen(namespace, tmp_path) as writer:
        assert writer.head == 0
        if accident == "not mounted yet":
            elsewhere.rename(file)
        writer.add_series(GAUGE, ("0",))
        for _ in range(2):
            append_proof(writer)
            disk_copy.take(tmp_path, namespace, "s")
    assert file.with_name(f"{file.name}.before").read_bytes() == whole
    assert caplog.messages.count("snapshot kept") == 1


def test_a_sector_that_can_not_be_read_costs_its_frames_and_no_more(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with open_writer(namespace, columns=512, capacity=128) as writer:
        append_proof(writer, 128)
        disk_copy.take(tmp_path, namespace, "s")
        slots = writer.header.slots_offset
    file, real = disk_copy.file_of(tmp_path, namespace, "s"), os.pread

    def restored_without(first: int, end: int) -> list[int]:
        """The history that comes back where the disk can't read these bytes of the snapshot."""

        def pread(fd: int, size: int, offset: int) -> bytes:
            if Path(os.readlink(f"/proc/self/fd/{fd}")) == file and first < offset + size and offset < end:
                raise OSError(5, "Input/output error")
            return real(fd, size, offset)

        ring_path(namespace, "s").unlink()
        with monkeypatch.context() as patch:
            patch.setattr(os, "pread", pread)
            with reopen(namespace, tmp_path, 128) as writer:
                return writer.history()

    held = restored_without(slots + 300_000, slots + 300_001)
    assert 40 < len(held) < 128
    assert held[-1] == 128
    assert restored_without(4096, file.stat().st_size) == []
    assert "snapshot refused" in caplog.messages
    assert file.exists()


@pytest.mark.parametrize("harm", ["cut", "cut by its writer's side", "zeroed between two starts", "cut between two"])
def test_what_a_ring_has_lost_comes_back_from_its_snapshot(namespace: str, tmp_path: Path, harm: str) -> None:
    def cut() -> None:
        os.truncate(ring_path(namespace, "s"), 5000)

    with open_writer(namespace, columns=2, capacity=32, snapshot_dir=tmp_path) as writer:
        append_proof(writer, 30)
        disk_copy.take(tmp_path, namespace, "s")
        append_proof(writer, 2)
        if harm.endswith("side") or harm == "cut":
            cut()
            if harm == "cut":
                writer.keep_published()
            append_proof(writer)
            assert writer.history() == [*range(2, 31), 33]
        slots = writer.header.slots_offset
    if harm == "zeroed between two starts":
        overwrite(ring_path(namespace, "s"), slots, bytes(64 * 32))
    elif harm == "cut between two":
        cut()
    with open_writer(namespace, capacity=32, snapshot_dir=tmp_path) as writer, RingReader(namespace, "s") as reader:
        held = whole_frames(reader, 2)
        assert set(held) >= set(range(2, 31))
        assert writer.history() == held


def test_a_snapshot_of_another_segment_is_not_mixed_in(namespace: str, tmp_path: Path) -> None:
    with open_writer(namespace, columns=2, capacity=16, snapshot_dir=tmp_path) as writer:
        append_proof(writer, 5)
        disk_copy.take(tmp_path, namespace, "s")
        writer.reserve(100)  # another segment, whose columns may lie elsewhere
        append_proof(writer, 2)
        os.truncate(ring_path(namespace, "s"), 0)
        writer.keep_published()
        append_proof(writer)
        assert writer.history() == [8]


def test_values_that_add_up_go_on_only_where_no_published_frame_can_be_missing(namespace: str, tmp_path: Path) -> None:
    with reopen(namespace, tmp_path) as writer:
        assert writer.continues, "a new ring"
        writer.add_series(GAUGE, ("0",))
        append_proof(writer, 3)
        disk_copy.take(tmp_path, namespace, "s")
        append_proof(writer, 1)
    with reopen(namespace, tmp_path) as writer:
        assert writer.continues, "resumed where it was"
    ring_path(namespace, "s").unlink()
    with reopen(namespace, tmp_path) as writer:
        assert not writer.continues, "restored from a snapshot after which its writer went on"
        append_proof(writer)
        writer.leave()
        disk_copy.take(tmp_path, namespace, "s", writer.open_again())
    ring_path(namespace, "s").unlink()
    with reopen(namespace, tmp_path) as writer:
        assert writer.continues, "restored from the last snapshot of an orderly end"
        assert writer.head == 4


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("a\0b", "which is not a path"),
        ("  ", "which is not a path"),
        ("~/snapshots", "~ is not expanded"),
        ("/dev/shm", "in shared memory"),
        ("/dev/shm/below/it", "in shared memory"),
        ("/proc/self/status", "not a directory"),
    ],
)
def test_a_directory_that_can_not_be_meant_is_refused_by_name(path: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\[shm\] snapshot_dir is .*give the path of a directory") as refused:
        disk_copy.check_directory(Path(path), "[shm]")
    assert says in str(refused.value)


def test_a_directory_that_is_yet_to_be_made_is_fine(tmp_path: Path) -> None:
    disk_copy.check_directory(tmp_path / "to" / "be", "[shm]")
    disk_copy.check_directory(Path("run/snapshots"), "[shm]")
