"""How a writer comes by its segment: what is published is resumed, rebuilt or set aside, and never lost unsaid."""

from __future__ import annotations

import logging
import os
import subprocess
from pathlib import Path

import pytest

from shm.errors import ConfigurationError, NoSpace, RingCorrupt, RingLayout
from shm.files import files_of, ring_path, sources_of, unlink
from shm.ring import disk_copy
from shm.ring.reader import RingReader
from tests.rings import (
    append_proof,
    corrupt_path,
    no_room,
    open_writer,
    overwrite,
    sequences,
    whole_frames,
)

SECOND = 1_000_000_000


def claim_layout(namespace: str, version: int) -> bytes:
    """Make the ring one of that layout version; its bytes."""
    path = ring_path(namespace, "s")
    overwrite(path, 8, version.to_bytes(8, "little"))
    return path.read_bytes()


def test_a_ring_of_another_layout_is_set_aside_whole_each_under_a_name_of_its_own(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    others = []
    for _ in range(3):
        with open_writer(namespace, columns=1) as writer:
            append_proof(writer)
        others.append(claim_layout(namespace, 2))
        with pytest.raises(RingLayout, match="layout version is 2, this program reads 1") as refused:
            RingReader(namespace, "s")
        assert refused.value.version == 2
        with open_writer(namespace, columns=1) as writer:
            assert writer.head == 0
    aside = [path for path in files_of(namespace, "s") if path.suffix != ".ring"]
    assert [path.suffix for path in aside] == [".layout-2", ".layout-2-1", ".layout-2-2"]
    assert [path.read_bytes() for path in aside] == others
    assert caplog.messages.count("segment set aside") == 3
    assert sources_of(namespace) == ["s"]
    assert len(unlink(namespace, "s")) == 4
    assert files_of(namespace, "s") == []


@pytest.mark.parametrize("version", [0, 256, 1 << 63])
def test_a_layout_version_that_no_release_has_is_damage(namespace: str, version: int) -> None:
    open_writer(namespace, columns=1).close()
    claim_layout(namespace, version)
    with pytest.raises(RingCorrupt, match=f"layout version is {version}") as refused:
        RingReader(namespace, "s")
    assert not isinstance(refused.value, RingLayout)
    open_writer(namespace).close()
    assert corrupt_path(namespace, "s").exists()


def test_a_ring_of_another_layout_is_kept_where_there_is_no_room_and_the_error_names_it(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writer(namespace, columns=1) as writer:
        append_proof(writer)
    other = claim_layout(namespace, 3)
    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", no_room)
        for _ in range(2):  # also at the starts after the one that set it aside
            with pytest.raises(NoSpace, match=r"or remove /dev/shm/.*\.s\.layout-3, the history of another release"):
                open_writer(namespace)
    [aside] = files_of(namespace, "s")
    assert aside.read_bytes() == other


def test_a_ring_of_an_earlier_boot_goes_on_with_monotonic_times_of_this_one(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_ns, now_ns = 5_000_000 * SECOND, 5_000_100 * SECOND
    monkeypatch.setattr("shm.ring.lifecycle._boot_id", lambda: b"a" * 16)
    with open_writer(namespace, columns=1) as writer:
        for i in range(3):
            writer.append([float(i)], before_ns + i * SECOND, (777 + i) * SECOND)
    monkeypatch.setattr("shm.ring.lifecycle._boot_id", lambda: b"b" * 16)
    monkeypatch.setattr("time.time_ns", lambda: now_ns)
    monkeypatch.setattr("time.monotonic_ns", lambda: 20 * SECOND)
    with open_writer(namespace) as writer:
        assert writer.resumed == 3
        frames = [writer.frame(sequence) for sequence in writer.history()]
        assert [frame.monotonic_ns for frame in frames if frame] == [(i - 80) * SECOND for i in range(3)]
        generation = writer.header.generation
    with open_writer(namespace) as writer:
        assert writer.header.generation == generation, "in the same boot it is resumed where it is"


def test_a_damaged_ring_gives_way_where_there_is_room_for_one_alone_and_the_snapshot_comes_back(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with open_writer(namespace, columns=1) as writer:
        append_proof(writer, 5)
        disk_copy.take(tmp_path, namespace, "s")
    overwrite(ring_path(namespace, "s"), 0, bytes(4096))
    reserve = os.posix_fallocate

    def room_for_one(fd: int, offset: int, length: int) -> None:
        if corrupt_path(namespace, "s").exists():
            no_room()
        reserve(fd, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", room_for_one)
    with open_writer(namespace, snapshot_dir=tmp_path), RingReader(namespace, "s") as reader:
        assert sequences(reader) == [1, 2, 3, 4, 5]
    assert not corrupt_path(namespace, "s").exists()
    assert caplog.messages[-1] == "history restored"


@pytest.mark.parametrize("harm", ["longer", "shorter", "with a hole"])
def test_a_file_of_which_only_size_or_blocks_are_wrong_keeps_its_frames(namespace: str, harm: str) -> None:
    with open_writer(namespace, columns=128, capacity=64) as writer:
        append_proof(writer, 64)
        size = writer.header.segment_bytes
    path = ring_path(namespace, "s")
    if harm == "with a hole":
        subprocess.run(["fallocate", "-p", "-o", "16384", "-l", "4096", str(path)], check=True)
    else:
        os.truncate(path, size + (1 if harm == "longer" else -1))
    with open_writer(namespace, capacity=64) as writer, RingReader(namespace, "s") as reader:
        assert writer.head == (63 if harm == "shorter" else 64), "the last slot's last byte is gone"
        assert len(writer.history()) >= 59
        assert writer.resumed == len(writer.history())
        assert whole_frames(reader, 128) == writer.history()
        assert writer.continues == (harm != "shorter")
    assert corrupt_path(namespace, "s").exists()


def test_a_ring_of_an_earlier_boot_goes_on_where_it_is_when_there_is_no_room_for_two(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shm.ring.lifecycle._boot_id", lambda: b"a" * 16)
    with open_writer(namespace, columns=1) as writer:
        append_proof(writer, 3)
    monkeypatch.setattr("shm.ring.lifecycle._boot_id", lambda: b"b" * 16)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with open_writer(namespace) as writer:
        assert writer.history() == [1, 2, 3]
        append_proof(writer)
        assert writer.head == 4


@pytest.mark.parametrize("name", ["*", "s*", "?", "../s", "a.b", ""])
def test_what_is_no_name_removes_nothing(namespace: str, tmp_path: Path, name: str) -> None:
    with open_writer(namespace, columns=1) as writer:
        append_proof(writer)
        disk_copy.take(tmp_path, namespace, "s")
        for remove in (lambda: unlink(namespace, name), lambda: unlink(name, "s"), lambda: sources_of(name)):
            with pytest.raises(ConfigurationError):
                remove()
        with pytest.raises(ConfigurationError):
            disk_copy.unlink(tmp_path, name)
        if name != "*":  # which stands for all of a namespace there
            with pytest.raises(ConfigurationError):
                disk_copy.unlink(tmp_path, namespace, name)
        assert ring_path(namespace, "s").exists()
        assert len(list(tmp_path.iterdir())) == 1


def test_a_ring_that_lost_its_newest_frames_does_not_continue_though_it_is_rebuilt(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 6)
        last = writer.header.slot_offset(6)
    overwrite(ring_path(namespace, "s"), last, bytes(8))
    with open_writer(namespace, capacity=16) as writer:  # another capacity: rebuilt
        assert (writer.head, writer.continues) == (6, False)  # the number of the lost frame is not used again
