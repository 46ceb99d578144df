"""The invariants of shm.ring.protocol, by number. What each module does besides is in the test of its name."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import resource
import signal
import time
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from shm.create import create
from shm.errors import NoSpace, RingCorrupt, RingError, WriterBusy, WriterClosed
from shm.files import building_path, lock_path, ring_path, unlink
from shm.ring.layout import HEADER_BYTES, SLOT_PAYLOAD, WORD_HEAD, read_header
from shm.ring.protocol import entry_seal, frame_seal
from shm.ring.reader import RingReader, prove
from shm.ring.writer import RingWriter
from tests.application import Process, ring_writer
from tests.rings import (
    GAUGE,
    append_proof,
    check,
    check_all,
    files_of,
    in_fork,
    no_room,
    open_writer,
    overwrite,
    sequences,
    whole_frames,
)

# A reader, that has found no ring of another name before.
READS = """\
import pytest; from shm.errors import RingMissing; from shm.ring.reader import RingReader
with pytest.raises(RingMissing): RingReader({0!r}, "nobody")
reader = RingReader({0!r}, "s"); reader.frames()
assert reader.latest() is not None
"""


def flat_out_writer(namespace: str, capacity: int, columns: int) -> Process:
    """A process that appends until it is killed; its ``resumed`` is the head that its writer began with."""
    return Process(
        namespace,
        "import threading; from tests.rings import append_proof, open_writer\n"
        f"writer = open_writer({namespace!r}, capacity={capacity}, columns={columns}); resumed = writer.head\n"
        "threading.Thread(target=lambda: append_proof(writer, 1 << 40), daemon=True).start()",
    )


def refused_elsewhere(namespace: str) -> None:
    """Another process is told that this one already writes."""
    begin = "import pytest; from shm.errors import WriterBusy; from tests.rings import open_writer"
    said = f"process {os.getpid()} already writes"
    with Process(namespace, begin) as other:
        other.do(f"with pytest.raises(WriterBusy, match={said!r}): open_writer({namespace!r})")


# ---- I1: nothing is accepted that was not appended exactly so ------------------------------------------------


def test_i1_beside_a_writer_that_laps_without_pause_every_accepted_frame_is_right(namespace: str) -> None:
    accepted = 0
    with flat_out_writer(namespace, 8, 100), RingReader(namespace, "s") as reader:
        while accepted < 2000:
            frame = reader.latest()
            if frame is not None:
                check(frame, 100)
                accepted += 1
            window = reader.frames()
            check_all(window, 100)
            accepted += len(window.sequence)
        assert reader.header.width >= 100


def a_slot(writer: RingWriter, sequence: int) -> bytes:
    offset = writer.header.slot_offset(sequence)
    return ring_path(writer.namespace, writer.source).read_bytes()[offset : offset + writer.header.slot_bytes]


def test_i1_a_slot_with_any_one_bit_flipped_is_refused(namespace: str) -> None:
    with open_writer(namespace, columns=8) as writer:
        append_proof(writer, 3)
        slot, salt = a_slot(writer, 3), writer.header.salt
    assert prove(slot, 3, salt) is not None
    for bit in range(8 * len(slot)):
        flipped = bytearray(slot)
        flipped[bit // 8] ^= 1 << bit % 8
        assert prove(bytes(flipped), 3, salt) is None, f"bit {bit}"


def test_i1_a_whole_slot_is_refused_under_another_sequence_and_in_another_segment(namespace: str) -> None:
    with open_writer(namespace, columns=8) as writer, open_writer(namespace, "other", columns=8) as other:
        append_proof(writer, 3)
        slot, salt = a_slot(writer, 3), writer.header.salt
        assert prove(slot, 11, salt) is None
        renumbered = (11).to_bytes(8, "little") + slot[8:]
        assert prove(renumbered, 11, salt) is None, "the seal must cover the sequence"
        assert prove(slot, 3, other.header.salt) is None, "the seal must cover the segment"
    assert entry_seal(slot, 8, salt) != frame_seal(slot, 8, salt), "an entry must not pass for a frame"


def test_i1_a_whole_slot_in_another_slots_place_is_refused_by_reader_and_by_the_next_writer(namespace: str) -> None:
    with open_writer(namespace, columns=8) as writer:
        append_proof(writer, 12)
        slot, header = a_slot(writer, 12), writer.header
    overwrite(ring_path(namespace, "s"), header.slot_offset(10), slot)
    with RingReader(namespace, "s") as reader:
        assert sequences(reader) == [5, 6, 7, 8, 9, 11, 12]
        assert reader.frames().sequence.tolist() == [9, 11, 12]
    with open_writer(namespace) as writer:
        assert writer.history() == [5, 6, 7, 8, 9, 11, 12]


def test_i1_a_frame_numbered_beyond_what_a_writer_can_reach_is_refused_though_its_seal_holds(namespace: str) -> None:
    with open_writer(namespace, columns=1) as writer:
        append_proof(writer)
        salt, size = writer.header.salt, writer.header.slot_bytes
        sequence = (1 << 62) + 8  # of the last slot
        payload = bytes(size - SLOT_PAYLOAD)
        slot = sequence.to_bytes(8, "little") + frame_seal(payload, sequence, salt).to_bytes(8, "little") + payload
        assert prove(slot, sequence, salt) is None
        overwrite(ring_path(namespace, "s"), writer.header.slot_offset(8), slot)
    with RingReader(namespace, "s") as reader:
        assert reader.newest_sequence() == 1
    with open_writer(namespace) as writer:
        assert writer.head == 1
        append_proof(writer)


# ---- I2: the writer waits for nobody -------------------------------------------------------------------------


def test_i2_a_stopped_reader_and_one_that_locks_what_it_can_do_not_hold_up_the_writer(namespace: str) -> None:
    import fcntl

    with open_writer(namespace, columns=4) as writer:
        append_proof(writer)
        with (
            Process(namespace, READS.format(namespace)) as stopped,
            ring_path(namespace, "s").open("rb") as file,
            RingReader(namespace, "s") as reader,
        ):
            os.kill(stopped.pid, signal.SIGSTOP)
            fcntl.flock(file, fcntl.LOCK_EX)
            append_proof(writer, 5000)
            writer.add_series(GAUGE, ("more",))
            for i in range(20):
                writer.add_series(GAUGE, (f"more than the width {i}",))
            append_proof(writer, 5000)
            assert writer.head == 10_001
            assert reader.replaced


def test_i2_an_append_that_is_refused_leaves_the_ring_as_it_was(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 8)
        before = ring_path(namespace, "s").read_bytes()
        for values, timestamp_ns in (([1.0] * 3, 1), (array("f", [1.0]), 1), (["x"], 1), ([1.0], 1 << 64)):
            with pytest.raises((ValueError, TypeError)):
                writer.append(values, timestamp_ns, 1)  # type: ignore[arg-type]
        assert ring_path(namespace, "s").read_bytes() == before
        append_proof(writer)
        assert sequences(reader) == list(range(2, 10))


# ---- I3: death costs the frame in flight ---------------------------------------------------------------------


def test_i3_killed_at_random_moments_the_writer_is_followed_by_one_that_resumes_at_head_plus_one(
    namespace: str,
) -> None:
    chance = random.Random(3)
    head = 0
    for _ in range(10):
        with flat_out_writer(namespace, 16, 8) as writer:
            resumed = int(writer.do("resumed"))
            assert resumed == head
            time.sleep(chance.uniform(0, 0.01))
        with RingReader(namespace, "s") as reader:
            head = reader.newest_sequence()
            assert head >= resumed
            assert len(whole_frames(reader, 8)) >= min(head, 16) - 1
    assert head > 0


# ---- I4: a reader never spins --------------------------------------------------------------------------------


def put_word(namespace: str, offset: int, value: int) -> None:
    overwrite(ring_path(namespace, "s"), offset, value.to_bytes(8, "little"))


def test_i4_a_torn_slot_is_skipped_and_counted(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 12)
        header = writer.header
    with RingReader(namespace, "s") as reader:
        put_word(namespace, header.slot_offset(11) + 48, 1)
        window = reader.frames()
        assert window.sequence.tolist() == [9, 10, 12]
        assert (window.skipped, reader.skipped_frames) == (1, 1)
        check_all(window, 2)
        put_word(namespace, header.slot_offset(12), 0)
        latest = reader.latest()
        assert latest is not None
        assert latest.sequence == 10
        assert reader.skipped_frames == 3


@pytest.mark.parametrize(("head", "held"), [(12, [9, 10, 11, 12]), (6, [3, 4, 5, 6])])
@pytest.mark.parametrize("hint", [0, 1, 5, 9, 10, 11, 13, 14, 20, 28, 1 << 32, (1 << 64) - 1])
def test_i4_a_wrong_head_hint_neither_loops_nor_hides_the_newest_frame(
    namespace: str, hint: int, head: int, held: list[int]
) -> None:
    with open_writer(namespace, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, head)
        put_word(namespace, 8 * WORD_HEAD, hint)
        assert reader.newest_sequence() == head
        assert reader.frames().sequence.tolist()[-4:] == held


def test_i4_slots_that_all_claim_wild_sequences_do_not_hide_a_whole_one(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 8)
        for sequence in range(2, 9):
            put_word(namespace, writer.header.slot_offset(sequence), sequence + (1 << 40))
        assert reader.newest_sequence() == 1


# ---- I5: one writer ------------------------------------------------------------------------------------------


def test_i5_a_second_writer_fails_at_once_and_names_the_pid_of_the_first(namespace: str) -> None:
    with ring_writer(namespace) as first:
        with pytest.raises(WriterBusy, match=rf"process {first.pid} already writes") as caught:
            open_writer(namespace)
        assert caught.value.pid == first.pid
    with open_writer(namespace) as writer:
        assert writer.head == 1


def test_i5_a_second_writer_in_the_same_process_fails_and_does_not_free_the_lock_of_the_first(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer:
        for _ in range(2):
            with pytest.raises(WriterBusy) as caught:
                open_writer(namespace)
            assert caught.value.pid == os.getpid()
        with pytest.raises(WriterBusy):
            unlink(namespace, "s")
        append_proof(writer)
        refused_elsewhere(namespace)


def test_i5_a_fork_of_the_writer_can_not_append_but_may_write_a_ring_of_its_own(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer)

        def forked() -> None:
            uses: list[Callable[[], object]] = [
                lambda: append_proof(writer), writer.beat, lambda: writer.reserve(100),
                lambda: writer.add_series(GAUGE, ("new",)),
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
        refused_elsewhere(namespace)
        with RingReader(namespace, "s") as reader:
            assert reader.writer.pid == os.getpid(), "the fork signed its parent's ring off"
    with RingReader(namespace, "child") as reader:
        assert sequences(reader) == [1, 2, 3]


def test_i5_the_lock_file_is_for_its_owner_alone_and_outlives_the_segment(namespace: str) -> None:
    before = os.umask(0)
    try:
        with open_writer(namespace):
            inode = lock_path(namespace, "s").stat().st_ino
            assert lock_path(namespace, "s").stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    unlink(namespace, "s")
    with open_writer(namespace):
        assert lock_path(namespace, "s").stat().st_ino == inode


# ---- I6: half a segment is none ------------------------------------------------------------------------------


def test_i6_what_a_writer_left_that_died_while_building_is_not_read_and_is_removed_by_the_next(namespace: str) -> None:
    fd, mapped = create("s", building_path(namespace, "s"), 65536)
    mapped.close()
    os.close(fd)  # and no rename: it was killed before
    with pytest.raises(RingError, match="no segment"):
        RingReader(namespace, "s")
    with open_writer(namespace, columns=2) as writer:
        assert not building_path(namespace, "s").exists()
        append_proof(writer)


def test_i6_the_magic_is_stored_before_the_name_is_given(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_rename: list[bytes] = []

    def rename(old: Path, new: Path) -> None:
        at_rename.append(old.read_bytes())
        os.replace(old, new)

    monkeypatch.setattr("shm.ring.lifecycle.os.rename", rename)
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 3)
        writer.reserve(20)
    assert len(at_rename) == 2
    for data in at_rename:
        assert read_header("s", data[:HEADER_BYTES], len(data)).source == "s"


# ---- I7: no access beyond reserved memory --------------------------------------------------------------------


def test_i7_a_segment_over_the_limit_of_file_size_is_refused_with_what_it_needs(namespace: str) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        with pytest.raises(NoSpace, match=rf"needs 4\.9 MiB .*{os.strerror(errno.EFBIG)}"):
            open_writer(namespace, capacity=5760, width=100)

    in_fork(limited)
    assert files_of(namespace) == [lock_path(namespace, "s")]


def test_i7_growth_without_room_leaves_the_ring_in_use_untouched(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writer(namespace, columns=8) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 12)
        before = ring_path(namespace, "s").read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", no_room)
            with pytest.raises(NoSpace, match=r"needs \d+\.\d MiB of shared memory.*--shm-size"):
                writer.add_series(GAUGE, ("ninth",))
        assert ring_path(namespace, "s").read_bytes() == before
        assert [path.suffix for path in files_of(namespace)] == [".lock", ".ring"]
        assert (writer.head, writer.header.width, writer.column_count) == (12, 8, 8)
        append_proof(writer)
        writer.add_series(GAUGE, ("ninth",))
        append_proof(writer)
        assert reader.replaced


def test_i7_whatever_fails_while_a_segment_is_built_the_ring_in_use_goes_on(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_writer(namespace, columns=8) as writer:
        append_proof(writer, 12)
        for place in (
            "shm.ring.lifecycle._carry_catalog",
            "shm.ring.lifecycle._carry_frames",
            "shm.ring.lifecycle.os.rename",
        ):

            def fail(*_: object) -> None:
                raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(place, fail)
                with pytest.raises(KeyboardInterrupt):
                    writer.reserve(1)
            assert [path.suffix for path in files_of(namespace)] == [".lock", ".ring"]
            append_proof(writer)
    with RingReader(namespace, "s") as reader:
        assert reader.newest_sequence() == 15
        check_all(reader.frames(), 8)


def test_i7_a_file_with_holes_is_refused(namespace: str) -> None:
    with open_writer(namespace, capacity=1000, columns=2) as writer:
        append_proof(writer, 3)
        size = writer.header.segment_bytes
    path = ring_path(namespace, "s")
    head = path.read_bytes()[:8192]
    path.unlink()
    with path.open("wb") as file:
        file.write(head)
        file.truncate(size)
    with pytest.raises(RingCorrupt, match="holes"):
        RingReader(namespace, "s")


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 8192, -8, +8])
def test_i7_a_file_of_another_size_than_its_header_says_is_refused(namespace: str, size: int) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 3)
        whole = writer.header.segment_bytes
    os.truncate(ring_path(namespace, "s"), size if size > 8 or size in (0, 1) else whole + size)
    with pytest.raises(RingCorrupt, match="bytes"):
        RingReader(namespace, "s")


@pytest.mark.parametrize("left", [33, 1])
def test_i7_of_a_file_that_was_cut_short_a_reader_gets_what_is_left_and_no_signal(namespace: str, left: int) -> None:
    with open_writer(namespace, capacity=64, columns=512) as writer:
        append_proof(writer, 64)
        header = writer.header
    with RingReader(namespace, "s") as reader:
        assert len(reader.frames(0).sequence) == 60  # the reader knows the timestamps of all
        os.truncate(ring_path(namespace, "s"), header.slot_offset(left))
        frames = reader.frames()
        assert frames.sequence.tolist() == list(range(1, left))
        check_all(frames, 512)
        assert reader.frames(0).sequence.tolist() == list(range(1, left))
        assert sequences(reader) == list(range(1, left))


def test_i7_of_a_file_that_was_cut_to_nothing_a_reader_gets_nothing(namespace: str) -> None:
    with open_writer(namespace, columns=3) as writer:
        append_proof(writer, 8)
    with RingReader(namespace, "s") as reader:
        os.truncate(ring_path(namespace, "s"), 0)
        assert (reader.latest(), reader.head, reader.series, reader.writer.pid) == (None, 0, [], 0)
        assert len(reader.frames().sequence) == 0


# ---- I8: a reader can't write --------------------------------------------------------------------------------


def test_i8_the_map_and_the_descriptor_of_a_reader_refuse_every_store(namespace: str) -> None:
    import mmap

    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 3)
    with RingReader(namespace, "s") as reader:
        assert len(reader.frames().sequence) == 3
        with pytest.raises(TypeError, match="read-only"):
            reader._map._bytes[0] = 1
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.pwrite(reader._map.fd, b"x", 0)
        with pytest.raises(OSError, match="Invalid argument"):
            os.ftruncate(reader._map.fd, 0)
        with pytest.raises(PermissionError):
            mmap.mmap(reader._map.fd, 0)
        assert sequences(reader) == [1, 2, 3]


def test_i8_windows_are_private_copies(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 8)
        latest = reader.latest()
        window = reader.frames()
        for array_ in (window.sequence, window.timestamp_ns, window.monotonic_ns, window.flags, window.values):
            array_[...] = 0
        again = reader.frames()
        check_all(again, 2)
        append_proof(writer, 20)
        check_all(again, 2)
        assert latest is not None
        check(latest, 2)
    check_all(again, 2)


@pytest.mark.parametrize("umask", [0, 0o022, 0o077, 0o777])
def test_i8_a_segment_has_mode_0640_whatever_the_umask(namespace: str, umask: int) -> None:
    before = os.umask(umask)
    try:
        with open_writer(namespace, columns=8) as writer:
            assert writer.path.stat().st_mode & 0o7777 == 0o640
            writer.reserve(1)
            assert writer.path.stat().st_mode & 0o7777 == 0o640
    finally:
        os.umask(before)


def test_i8_the_segment_outlives_readers_that_end_in_any_way_and_no_resource_tracker_is_started(
    namespace: str,
) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer)
    orderly, killed = Process(namespace, READS.format(namespace)), Process(namespace, READS.format(namespace))
    children = Path(f"/proc/{killed.pid}/task/{killed.pid}/children").read_text()
    assert children == "", "a resource tracker would unlink the ring"
    orderly.end()
    killed.kill()
    assert RingReader(namespace, "s").newest_sequence() == 1


def test_i8_the_segment_outlives_a_writer_and_a_reader_that_fail_to_map_it(namespace: str) -> None:
    with open_writer(namespace, capacity=4000, columns=64) as writer:
        append_proof(writer)

    def without_address_space() -> None:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 20), resource.RLIM_INFINITY))
        for attach in (lambda: open_writer(namespace, capacity=4000), lambda: RingReader(namespace, "s")):
            with pytest.raises(RingError, match="can't be mapped"):
                attach()

    in_fork(without_address_space)
    assert RingReader(namespace, "s").newest_sequence() == 1


# ---- I9: corrupt bytes cost that ring at most ----------------------------------------------------------------


def test_i9_a_flip_of_any_one_byte_of_header_or_catalog_gives_an_error_or_what_was_appended(namespace: str) -> None:
    """tests/siege/fuzz/test_fuzz.py has all other damage, and what the next writer makes of it."""
    with open_writer(namespace, columns=6) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 12)
        used = reader.catalog.used
    path = ring_path(namespace, "s")
    whole = path.read_bytes()
    for at in (*range(256), *range(512, 712), *range(HEADER_BYTES, HEADER_BYTES + used)):
        path.unlink()
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        with contextlib.suppress(RingError), RingReader(namespace, "s") as reader:
            check_all(reader.frames(), 6)
            assert [series.label_values for series in reader.series] == [(str(i),) for i in range(len(reader.series))]
