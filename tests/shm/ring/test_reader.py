"""RingReader: windows by time and by sequence, over the end of the ring, beside a clock that steps."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from shm.ring.layout import FLAG_TICK, SLOT_HEADER_BYTES, STALE_NAN_BITS, WORD_CATALOG_USED, WORD_HEAD
from shm.ring.reader import RingReader
from shm.ring.windows import GUARD_SLOTS
from tests.rings import SECOND_NS, append_proof, check, check_all, is_replaced, open_writer, overwrite, put_word


def test_an_empty_ring_has_no_latest_frame_and_an_empty_window(namespace: str) -> None:
    with open_writer(namespace, columns=2), RingReader(namespace, "s") as reader:
        assert reader.latest() is None
        assert (reader.head, reader.newest_sequence(), reader.skipped_frames) == (0, 0, 0)
        for window in (reader.frames(), reader.frames(0, 1), reader.frames(after=9)):
            assert window.sequence.shape == window.timestamp_ns.shape == window.monotonic_ns.shape == (0,)
            assert window.flags.shape == (0,)
            assert window.values.shape == (0, reader.header.width)
            assert window.skipped == 0


def test_a_window_has_the_shapes_and_types_that_frames_promises(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 3)
        window = reader.frames()
        assert window.sequence.dtype == np.uint64
        assert window.timestamp_ns.dtype == window.monotonic_ns.dtype == np.int64
        assert window.flags.dtype == np.uint64
        assert window.values.dtype == np.float64
        assert window.values.shape == (3, 8)
        assert window.flags.tolist() == [FLAG_TICK] * 3
        assert set(window.values[:, 2:].copy().view(np.uint64).ravel().tolist()) == {STALE_NAN_BITS}


def test_a_windows_old_edge_is_exclusive_and_its_new_edge_inclusive(namespace: str) -> None:
    with open_writer(namespace, capacity=16, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 10)

        def window(since: float | None, until: float | None) -> list[int]:
            frames = reader.frames(
                None if since is None else int(since * SECOND_NS), None if until is None else int(until * SECOND_NS)
            )
            check_all(frames, 2)
            assert frames.skipped == 0
            found: list[int] = frames.sequence.tolist()
            return found

        assert window(3, 6) == [4, 5, 6]
        assert window(2.5, 6.5) == [3, 4, 5, 6]
        assert window(None, 2) == [1, 2]
        assert window(8, None) == [9, 10]
        assert window(10, None) == []
        assert window(6, 6) == []
        assert window(6, 3) == []
        assert window(-1e9, 1e9) == list(range(1, 11))


def test_edges_beyond_what_a_timestamp_can_be_are_no_error(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 3)
        assert reader.frames(-(1 << 70), 1 << 70).sequence.tolist() == [1, 2, 3]


def test_a_window_after_a_sequence_holds_only_newer_frames(namespace: str) -> None:
    with open_writer(namespace, capacity=16, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 30)
        assert reader.frames(after=27).sequence.tolist() == [28, 29, 30]
        assert reader.frames(after=30).sequence.tolist() == []
        assert reader.frames(after=99).sequence.tolist() == []
        assert reader.frames(after=3).sequence.tolist() == list(range(19, 31))
        assert reader.frames(28 * SECOND_NS, None, after=25).sequence.tolist() == [29, 30]
        assert reader.frames(None, 28 * SECOND_NS, after=25).sequence.tolist() == [26, 27, 28]


@pytest.mark.parametrize("frames", range(1, 40))
def test_a_window_over_the_end_of_the_ring_is_in_order_and_leaves_the_guard_out(namespace: str, frames: int) -> None:
    with open_writer(namespace, capacity=16, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, frames)
        window = reader.frames()
        check_all(window, 2)
        assert window.sequence.tolist() == list(range(max(frames - 16 + 1 + GUARD_SLOTS, 1), frames + 1))
        part = reader.frames((frames - 5) * SECOND_NS, (frames - 1) * SECOND_NS)
        assert part.sequence.tolist() == list(range(max(frames - 4, 1), frames))
        check_all(part, 2)


def test_a_window_larger_than_a_block_is_the_same_window(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_writer(namespace, capacity=64, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 100)
        for block in (1, 112, 500, 1 << 20):
            monkeypatch.setattr("shm.ring.windows.COPY_BYTES", block)
            window = reader.frames()
            assert window.sequence.tolist() == list(range(41, 101))
            check_all(window, 2)


def test_after_a_step_of_the_clock_a_window_goes_by_timestamp_and_stays_in_sequence_order(namespace: str) -> None:
    with open_writer(namespace, capacity=16, columns=1) as writer, RingReader(namespace, "s") as reader:
        # the clock stands at 10…14, is set back to 8, and passes the same times again
        stamps = [10, 11, 12, 13, 14, 8, 9, 10, 11, 12]
        for stamp in stamps:
            writer.append([float(stamp)], stamp, writer.head)
        assert reader.frames(10, 12).sequence.tolist() == [2, 3, 9, 10]
        assert reader.frames(10, 12).values[:, 0].tolist() == [11.0, 12.0, 11.0, 12.0]
        assert reader.frames(12, None).sequence.tolist() == [4, 5]
        assert reader.frames(None, 9).sequence.tolist() == [6, 7]
        assert reader.frames().timestamp_ns.tolist() == stamps


def test_an_old_timestamp_of_a_frame_of_its_own_is_found_by_its_time(namespace: str) -> None:
    with open_writer(namespace, columns=1) as writer, RingReader(namespace, "s") as reader:
        writer.append([1.0], 100, 1)
        writer.append([2.0], 50, 2, 0)
        writer.append([3.0], 110, 3)
        assert reader.frames(40, 60).sequence.tolist() == [2]
        assert reader.frames(40, 60).flags.tolist() == [0]


@pytest.mark.parametrize("torn", [{13}, {24}, {13, 14, 24}, {18, 20}, set(range(13, 25)), {19}])
def test_torn_slots_are_left_out_and_counted_wherever_they_lie(namespace: str, torn: set[int]) -> None:
    with open_writer(namespace, capacity=16, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 25)
        for sequence in torn:
            overwrite(reader.path, reader.header.slot_offset(sequence) + SLOT_HEADER_BYTES, b"?")
        window = reader.frames()
        assert window.sequence.tolist() == [s for s in range(14, 26) if s not in torn]
        assert window.skipped == len(torn - {13})
        assert reader.skipped_frames == window.skipped
        check_all(window, 2)


def test_a_frame_by_its_sequence_is_there_or_is_none(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 12)
        for sequence in (-1, 0, 1, 4, 13, 20, 1 << 64, (1 << 64) + 12):
            assert reader.frame(sequence) is None
        for sequence in range(5, 13):
            frame = reader.frame(sequence)
            assert frame is not None
            check(frame, 2)


def test_latest_one_beyond_the_hint_is_found_as_after_a_death_between_two_stores(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 12)
        put_word(writer, WORD_HEAD, 11)
        assert reader.newest_sequence() == 12
        assert reader.skipped_frames == 0


def test_a_damaged_announcement_of_an_empty_catalog_does_not_hide_what_is_proven(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer)
        put_word(writer, WORD_CATALOG_USED, 0)
        with RingReader(namespace, "s") as reader:
            assert [series.label_values for series in reader.series] == [("0",), ("1",)]


def test_a_series_added_later_shows_in_a_reader_that_is_open(namespace: str) -> None:
    with open_writer(namespace, columns=1) as writer, RingReader(namespace, "s") as reader:
        assert len(reader.series) == 1
        writer.add_series(writer.metrics["gauge"], ("later",))
        assert [s.label_values for s in reader.series] == [("0",), ("later",)]


def test_replaced_is_false_for_the_published_and_true_once_its_name_is_gone_or_leads_elsewhere(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer)
        assert not is_replaced(reader)
        aside = Path(f"{reader.path}.aside")
        os.rename(reader.path, aside)
        assert is_replaced(reader)
        os.rename(aside, reader.path)
        assert not is_replaced(reader)
        reader.path.unlink()
        assert is_replaced(reader)
        assert reader.newest_sequence() == 1


def test_a_closed_reader_leaves_its_copies_valid_and_closing_twice_is_nothing(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 3)
    reader = RingReader(namespace, "s")
    window, latest = reader.frames(), reader.latest()
    reader.close()
    reader.close()
    check_all(window, 2)
    assert latest is not None
    check(latest, 2)


def test_slots_that_are_lost_are_counted_once(namespace: str) -> None:
    with open_writer(namespace, columns=2, capacity=64) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 64)
        for sequence in range(20, 30):
            writer._segment.bytes[writer.header.slot_offset(sequence) + 50] ^= 1
        assert (len(reader.frames(0).sequence), reader.skipped_frames) == (50, 10)
        assert (len(reader.frames(0).sequence), reader.skipped_frames) == (50, 10)
        append_proof(writer, 64)
        assert len(reader.frames(0).sequence) == 60, "their slots have other frames now"


def test_slots_that_nothing_was_ever_written_to_are_no_loss(namespace: str) -> None:
    with open_writer(namespace, columns=2, capacity=8) as writer:
        append_proof(writer, 20)
    with open_writer(namespace, capacity=64) as writer, RingReader(namespace, "s") as reader:
        assert len(writer.history()) == 8
        assert reader.frames().sequence.tolist() == list(range(13, 21))
        assert (reader.frames(0).skipped, reader.skipped_frames) == (0, 0)
