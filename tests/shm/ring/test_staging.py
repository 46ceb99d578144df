"""Staging: bytes reach the map by way of the kernel, which reports what would be a SIGBUS."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from shm.errors import NoSpace, RingLost
from shm.files import ring_path
from shm.ring.reader import RingReader
from shm.ring.staging import Staging
from tests.rings import append_proof, open_writer, sequences, whole_frames


@pytest.mark.parametrize("left", [0, 4096, 8192, 12288])
def test_an_append_into_a_file_that_was_cut_since_it_was_looked_at_goes_to_a_new_one(
    namespace: str, left: int, caplog: pytest.LogCaptureFixture
) -> None:
    with open_writer(namespace, columns=512, capacity=8) as writer:
        append_proof(writer, 5)
        os.truncate(ring_path(namespace, "s"), left)
        append_proof(writer, 2)  # frame 6 lies behind every one of these ends
        assert writer.head == 7
        with RingReader(namespace, "s") as reader:
            assert whole_frames(reader, 512)[-2:] == [6, 7]
    assert caplog.messages == ["ring published again"]


def test_a_file_that_is_cut_as_fast_as_it_is_published_is_an_error_that_says_so(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer)
        with monkeypatch.context() as patch:
            patch.setattr(Staging, "copy", lambda *arguments: False)
            with pytest.raises(RingLost, match="is cut as fast as it is published"):
                append_proof(writer)
        append_proof(writer)
        assert writer.head == 2


def test_the_staging_memory_can_not_be_cut_by_anybody(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer:
        descriptor = writer._segment.staging._fd
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, 0)
        with Path(f"/proc/self/fd/{descriptor}").open("r+b") as other, pytest.raises(PermissionError):
            other.truncate(0)
        append_proof(writer, 3)


def test_closed_writers_and_rebuilds_leave_no_descriptor_and_no_map(namespace: str) -> None:
    def held() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), Path("/proc/self/maps").read_text().count("fogmetrics")

    before = held()
    for _ in range(3):
        with open_writer(namespace, columns=2) as writer:
            append_proof(writer)
            writer.reserve(100)
            append_proof(writer)
    assert held() == before


@pytest.mark.parametrize("call", ["memfd_create", "pwrite"])
def test_where_nothing_can_be_staged_the_ring_in_use_goes_on_and_nothing_leaks(
    namespace: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with open_writer(namespace, columns=8) as writer:
        append_proof(writer, 5)
        before = len(os.listdir("/proc/self/fd"))
        real = os.pwrite

        def full(*arguments: object, **keywords: object) -> int:
            if call == "pwrite" and len(arguments[1]) != writer._segment.staging.bytes + 8 * 8:  # type: ignore[arg-type]
                return real(*arguments)  # type: ignore[arg-type]
            raise OSError(24, "Too many open files")

        with monkeypatch.context() as patch:
            patch.setattr(os, call, full)
            with pytest.raises(NoSpace, match=r"can't be staged in a memfd: Too many open files; .*ulimit -n"):
                writer.reserve(1)
        append_proof(writer, 5)
        assert len(os.listdir("/proc/self/fd")) == before
        with RingReader(namespace, "s") as reader:
            assert sequences(reader) == list(range(3, 11))


def test_a_start_that_can_not_stage_gives_lock_and_segment_back(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as patch:
        patch.setattr(os, "memfd_create", refused)
        with pytest.raises(NoSpace, match="seccomp"):
            open_writer(namespace)
    assert len(os.listdir("/proc/self/fd")) == before
    with open_writer(namespace, columns=1) as writer:
        append_proof(writer)
