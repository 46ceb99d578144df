"""RingWriter: what is appended can be read, and growth, resume and configuration change keep the history."""

from __future__ import annotations

import logging
import os
import struct
from array import array
from collections.abc import Callable
from pathlib import Path

import pytest

from shm.errors import ConfigurationError, MetricError, NoSpace, RingLost, WriterClosed
from shm.files import lock_path, ring_path
from shm.metric import Metric
from shm.ring.layout import (
    FLAG_CLOCK_STEP,
    FLAG_TICK,
    HEADER_BYTES,
    STALE_NAN_BITS,
    WORD_CATALOG_USED,
    WORD_HEAD,
    Header,
)
from shm.ring.reader import Frame, RingReader
from shm.ring.writer import RingWriter
from tests.application import ring_writer
from tests.rings import (
    GAUGE,
    INTERVAL_NS,
    append_proof,
    check,
    files_of,
    frame_of,
    is_replaced,
    no_room,
    open_writer,
    overwrite,
    proof,
    put_word,
    run_python,
    sequences,
    whole_frames,
)

STALE = struct.unpack("<d", STALE_NAN_BITS.to_bytes(8, "little"))[0]


def latest(reader: RingReader) -> Frame:
    return frame_of(reader, reader.newest_sequence())


def bits(frame: Frame) -> list[int]:
    return frame.values.cast("B").cast("Q").tolist()


# ---- append --------------------------------------------------------------------------------------------------


def test_a_frame_reads_back_as_it_was_appended(namespace: str) -> None:
    with open_writer(namespace, columns=3) as writer, RingReader(namespace, "s") as reader:
        assert writer.append([1.5, -0.0, float("inf")], -7, 1 << 62, FLAG_TICK | FLAG_CLOCK_STEP) == 1
        frame = latest(reader)
        assert (frame.sequence, frame.timestamp_ns, frame.monotonic_ns, frame.count, frame.flags) == (
            1,
            -7,
            1 << 62,
            3,
            3,
        )
        assert bits(frame)[:3] == [struct.unpack("<Q", struct.pack("<d", v))[0] for v in (1.5, -0.0, float("inf"))]
        assert (reader.head, reader.newest_sequence()) == (1, 1)


def test_arrays_memoryviews_and_plain_sequences_are_stored_alike(namespace: str) -> None:
    with open_writer(namespace, columns=3) as writer, RingReader(namespace, "s") as reader:
        for values in ([1, 2.0, 3.5], (1, 2.0, 3.5), array("d", [1, 2, 3.5]), memoryview(array("d", [1, 2, 3.5]))):
            writer.append(values, 1, 1)
            assert latest(reader).values[:3].tolist() == [1.0, 2.0, 3.5]


def test_columns_past_the_values_given_are_absent_though_the_frame_before_had_them(namespace: str) -> None:
    with open_writer(namespace, columns=3) as writer, RingReader(namespace, "s") as reader:
        append_proof(writer, 9)
        writer.append([5.0], 1, 1)
        frame = latest(reader)
        assert [frame.value(column) for column in range(8)] == [5.0, *[None] * 7]
        assert bits(frame)[1:] == [STALE_NAN_BITS] * 7


def test_absent_and_an_ordinary_nan_are_kept_apart_bit_by_bit(namespace: str) -> None:
    nans = [0x7FF8_0000_0000_0000, 0xFFF8_0000_0000_0001, STALE_NAN_BITS, 0x7FF0_0000_0000_0001, STALE_NAN_BITS + 1]
    values = memoryview(b"".join(n.to_bytes(8, "little") for n in nans)).cast("d")
    with open_writer(namespace, columns=5) as writer, RingReader(namespace, "s") as reader:
        writer.append(values, 1, 1)
        frame = latest(reader)
        assert bits(frame)[:5] == nans
        assert [frame.value(i) is None for i in range(5)] == [False, False, True, False, False]
        assert reader.frames().values[0, :5].view("u8").tolist() == nans
        writer.append([float("nan"), STALE], 2, 2)
        assert [latest(reader).value(i) is None for i in range(2)] == [False, True]
        for i in range(10):  # through a rebuild too
            writer.add_series(GAUGE, (f"more {i}",))
        assert bits(frame_of(writer, 1))[:5] == nans


def test_more_values_than_columns_are_refused_so_that_no_later_series_is_credited_with_them(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer:
        with pytest.raises(MetricError, match="has 2 columns, not 3; add series"):
            writer.append([1.0, 2.0, 3.0], 1, 1)
        assert writer.head == 0


def test_a_closed_writer_refuses_everything_and_closing_twice_is_nothing(namespace: str) -> None:
    writer = open_writer(namespace, columns=2)
    append_proof(writer)
    writer.close()
    writer.close()
    for use in (
        lambda: writer.append([1.0], 1, 1),
        writer.beat,
        lambda: writer.reserve(100),
        lambda: writer.prune(set()),
        lambda: writer.add_metric(GAUGE),
        lambda: writer.add_series(GAUGE, ("new",)),
        lambda: writer.note_limit("gauge", 1),
    ):
        with pytest.raises(WriterClosed, match="closed"):
            use()
    assert writer.head == 1


def test_the_header_says_who_writes_and_an_orderly_end_says_nobody(namespace: str) -> None:
    with RingReader(namespace, open_writer(namespace, columns=2).source) as reader:
        assert reader.writer.pid == os.getpid()
    writer = open_writer(namespace, "t", columns=2)
    with RingReader(namespace, "t") as reader:
        before = reader.writer.heartbeat_ns
        writer.beat()
        assert reader.writer.heartbeat_ns > before
        writer.close()
        assert reader.writer.pid == 0


@pytest.mark.parametrize("capacity", [0, 7, (1 << 24) + 1])
def test_a_capacity_out_of_bounds_is_refused(namespace: str, capacity: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"capacity is {capacity}; use 8 to 16777216"):
        open_writer(namespace, capacity=capacity)


# ---- catalog -------------------------------------------------------------------------------------------------


def test_series_take_the_next_columns_and_are_found_again(namespace: str) -> None:
    latency = Metric("latency", "histogram", "Time.", "ms", (), (1.0, 2.0))
    with open_writer(namespace, columns=2) as writer:
        series = writer.add_series(latency, ())
        assert (series.column, series.end) == (2, 7)
        assert writer.add_series(latency, ()) is series
        assert writer.columns["latency", ()] is series
        assert writer.column_count == 7
        assert list(writer.metrics) == ["gauge", "latency"]
        with RingReader(namespace, "s") as reader:
            assert [s.column for s in reader.series] == [0, 1, 2]
            assert reader.catalog.metrics[1] == latency


def test_a_metric_with_another_definition_is_refused(namespace: str) -> None:
    with open_writer(namespace, columns=1) as writer:
        writer.add_metric(GAUGE)
        with pytest.raises(MetricError, match=r"is in ring 's' as .*gauge.* can't also be .*counter"):
            writer.add_metric(Metric("gauge", "counter", "A value that proves itself.", "", ("column",)))


@pytest.mark.parametrize("label_values", [(), ("a", "b"), (1,), ("x" * 1001,), ("\ud800",)])
def test_a_series_that_could_not_be_read_back_is_refused_and_the_catalog_stays_whole(
    namespace: str, label_values: tuple[str, ...]
) -> None:
    with open_writer(namespace, columns=1) as writer:
        with pytest.raises(MetricError):
            writer.add_series(GAUGE, label_values)
        writer.add_series(GAUGE, ("good",))
        with RingReader(namespace, "s") as reader:
            assert not reader.catalog.error
            assert [s.label_values for s in reader.series] == [("0",), ("good",)]


def test_limits_are_noted_once_and_survive_a_rebuild(namespace: str) -> None:
    with open_writer(namespace, columns=1) as writer:
        writer.note_limit("gauge", 200)
        used = writer._catalog.used
        writer.note_limit("gauge", 200)
        assert writer._catalog.used == used
        writer.note_limit("gauge", 300)
        writer.reserve(100)
        with RingReader(namespace, "s") as reader:
            assert reader.catalog.limits == {"gauge": 300}


# ---- growth --------------------------------------------------------------------------------------------------


def test_growth_keeps_the_history_and_readers_follow(namespace: str) -> None:
    with open_writer(namespace, capacity=16, columns=8) as writer:
        append_proof(writer, 20)
        reader = RingReader(namespace, "s")
        assert not is_replaced(reader)
        series = writer.add_series(GAUGE, ("ninth",))
        assert is_replaced(reader)
        assert latest(reader).sequence == 20, "the old map stays readable"
        reader.close()
        writer.append([*proof(21, 8), 9.0], 21_000_000_000, 21)
        with RingReader(namespace, "s") as reader:
            assert not is_replaced(reader)
            assert reader.header.generation == 1
            assert sequences(reader) == list(range(6, 22))
            for sequence in range(6, 21):
                frame = frame_of(reader, sequence)
                assert list(frame.values[:8]) == list(proof(sequence, 8))
                assert frame.value(series.column) is None
            assert latest(reader).value(series.column) == 9.0


def test_reserving_for_many_takes_one_rebuild(namespace: str) -> None:
    with open_writer(namespace, columns=8) as writer:
        writer.reserve(0)
        assert writer.header.generation == 0
        writer.reserve(500)
        for i in range(500):
            writer.add_series(GAUGE, (f"more {i}",))
        assert writer.header.generation == 1


def test_long_labels_outgrow_the_catalog_and_it_grows_with_the_history(namespace: str) -> None:
    labels = [(f"{i}" + "ü" * 900,) for i in range(40)]
    with open_writer(namespace, columns=8, width=64) as writer:
        append_proof(writer, 12)
        for one in labels:
            writer.add_series(GAUGE, one)
        assert writer.header.width == 64
        writer.reserve(200)  # the next segment's catalog must hold them too
        append_proof(writer)
    with open_writer(namespace, capacity=12) as writer:
        assert list(writer.columns)[8:] == [("gauge", one) for one in labels]
        assert writer.history() == list(range(6, 14))
        with RingReader(namespace, "s") as reader:
            assert not reader.catalog.error
            assert len(reader.series) == 48
            assert list(latest(reader).values[:48]) == list(proof(13, 48))


@pytest.mark.parametrize("more", [1, 8])
def test_pruned_series_are_gone_with_their_history_and_who_comes_next_is_credited_with_none_of_it(
    namespace: str, more: int
) -> None:
    latency = Metric("latency", "histogram", "Time.", "ms", (), (1.0,))
    with open_writer(namespace, columns=3) as writer:
        writer.append([0.0, 1.0, 2.0], 1, 1)
        writer.add_series(latency, ())  # columns 3…6, younger than the first frame
        writer.append([10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0], 2, 2)
        writer.prune({("gauge", ("1",)), ("latency", ())}, more)
        assert list(writer.columns) == [("gauge", ("0",)), ("gauge", ("2",))]
        for number in range(more):
            writer.add_series(GAUGE, (f"new {number}",))
        assert writer.header.generation == 1, "one rebuild, which made room"
        writer.append([20.0, 22.0, *range(100, 100 + more)], 3, 3)
        with RingReader(namespace, "s") as reader:
            values = reader.frames().values
            found = {one.label_values[0]: values[:, one.column].tolist() for one in reader.series}
            frames = [reader.frame(sequence) for sequence in (1, 2, 3)]
            assert [frame.count for frame in frames if frame is not None] == [2, 2, 2 + more]
        absent = pytest.approx(STALE, nan_ok=True)
        assert found.pop("0") == [0.0, 10.0, 20.0]
        assert found.pop("2") == [2.0, 12.0, 22.0]
        assert found == {f"new {number}": [absent, absent, 100.0 + number] for number in range(more)}
    with open_writer(namespace) as writer:
        assert writer.history() == [1, 2, 3]


def test_columns_absent_for_a_whole_capacity_are_freed_and_not_credited_to_other_series(namespace: str) -> None:
    latency = Metric("latency", "histogram", "Time.", "ms", (), (1.0,))
    with open_writer(namespace, columns=3) as writer:
        writer.add_series(latency, ())  # columns 3…6
        writer.add_series(GAUGE, ("last",))  # column 7
        writer.append([0.0, 111.0, 2.0, STALE, STALE, STALE, STALE, 7.0], 1, 1)
        for i in range(2, 12):  # column 1 falls silent; the histogram has its sum alone
            writer.append([i + 0.0, STALE, STALE if i < 11 else 2.0, STALE, STALE, STALE, i + 0.6, i + 0.7], i, i)
        new = writer.add_series(GAUGE, ("new",))
        assert ("gauge", ("1",)) not in writer.columns
        where = {key[1][0] if key[1] else key[0]: series.column for key, series in writer.columns.items()}
        assert where == {"0": 0, "2": 1, "latency": 2, "last": 6, "new": 7}
        assert writer.history() == list(range(4, 12))
        for sequence in writer.history():
            frame = frame_of(writer, sequence)
            assert [frame.value(i) for i in range(8)] == [
                sequence, 2.0 if sequence == 11 else None, None, None, None, sequence + 0.6, sequence + 0.7, None,
            ]  # fmt: skip
            assert frame.value(new.column) is None
        again = writer.add_series(GAUGE, ("1",))
        assert again.column == 8


def test_a_series_entered_since_the_oldest_frame_is_not_freed_by_the_rebuild_that_another_needs(namespace: str) -> None:
    with open_writer(namespace, columns=7) as writer:
        append_proof(writer, 20)
        writer.add_series(GAUGE, ("not sampled yet",))
        for i in range(3):
            assert writer.add_series(GAUGE, (f"filler {i}",)).column == 8 + i
            writer.reserve(writer.header.width - writer.column_count + 1)
        assert writer.columns["gauge", ("not sampled yet",)].column == 7
        assert writer.header.generation >= 3
        # Once every frame held knows it and none has a sample of it, it goes.
        for i in range(8):
            writer.append([1.0] * 7, i, i)
        writer.reserve(writer.header.width)
        assert list(writer.columns) == [("gauge", (str(i),)) for i in range(7)]


def test_series_that_come_and_go_do_not_widen_a_ring_for_ever(namespace: str) -> None:
    with open_writer(namespace, columns=8) as writer:
        for i in range(600):
            row = array("d", [STALE] * writer.column_count)
            row[writer.columns["gauge", (f"run {i}",)].column if i else 0] = 1.0
            writer.append(row, i, i)
            writer.add_series(GAUGE, (f"run {i + 1}",))
        assert writer.header.width <= 32
        assert writer.header.generation > 10


# ---- resume and configuration --------------------------------------------------------------------------------


def test_the_next_writer_resumes_at_head_plus_one_with_its_series(namespace: str) -> None:
    with open_writer(namespace, columns=4) as writer:
        append_proof(writer, 12)
    with open_writer(namespace) as writer:
        assert (writer.head, writer.resumed, writer.column_count) == (12, 8, 4)
        assert writer.history() == list(range(5, 13))
        assert writer.header.generation == 0
        append_proof(writer)
    with RingReader(namespace, "s") as reader:
        check(latest(reader), 4)
        assert latest(reader).sequence == 13


def test_the_next_writer_finds_the_head_by_proof_whatever_the_header_hints(namespace: str) -> None:
    for hint in (0, 5, 11, 13, 1 << 60):
        with open_writer(namespace, f"s{hint}", columns=2) as writer:
            append_proof(writer, 12)
            put_word(writer, WORD_HEAD, hint)
        with open_writer(namespace, f"s{hint}") as writer:
            assert writer.head == 12


def damaged(writer: RingWriter, sequence: int, part: str) -> None:
    """Damage that slot, as stray stores would after the writer is gone."""
    at = {"sequence": 0, "seal": 8, "values": 48}[part]
    overwrite(writer.path, writer.header.slot_offset(sequence) + at, bytes(8) if part == "sequence" else b"damaged!")


@pytest.mark.parametrize("part", ["sequence", "seal", "values"])
@pytest.mark.parametrize(("frames", "lost"), [(5, [5]), (5, [4, 5]), (1, [1]), (12, [12]), (12, [9, 11, 12])])
def test_no_number_is_used_twice_in_a_segment_though_the_newest_frames_are_damaged(
    namespace: str, part: str, frames: int, lost: list[int]
) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, frames)
        salt = writer.header.salt
    with RingReader(namespace, "s") as reader:
        before = reader.frames().sequence.tolist()
        for sequence in lost:
            damaged(writer, sequence, part)
        for _ in range(2):  # also by the writer after the next
            with open_writer(namespace) as writer:
                assert (writer.header.salt, writer.head) == (salt, frames)
                assert writer.history() == [one for one in range(max(frames - 7, 1), frames + 1) if one not in lost]
        with open_writer(namespace) as writer:
            append_proof(writer)
            assert writer.head == frames + 1
            left = [one for one in before if one not in lost and one > frames - 3]
            assert reader.frames().sequence.tolist() == [*left, frames + 1]
            check(frame_of(reader, frames + 1), 2)


def test_a_ring_of_which_no_frame_is_left_goes_on_behind_the_numbers_that_it_announced(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 100)
        for sequence in range(93, 101):
            damaged(writer, sequence, "sequence")
    with open_writer(namespace) as writer:
        assert (writer.head, writer.history(), writer.continues) == (100, [], False)


def test_the_number_of_a_frame_in_flight_when_the_writer_died_is_the_next_ones(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 12)
        overwrite(writer.path, writer.header.slot_offset(13), bytes(8) + b"half")
    with open_writer(namespace) as writer:
        assert (writer.head, writer.continues) == (12, True)


@pytest.mark.parametrize(("capacity", "interval_ns"), [(9, INTERVAL_NS), (16, 2 * INTERVAL_NS), (64, INTERVAL_NS)])
def test_another_capacity_or_interval_in_the_configuration_rebuilds_with_the_history_that_fits(
    namespace: str, capacity: int, interval_ns: int
) -> None:
    with open_writer(namespace, capacity=16, columns=4) as writer:
        append_proof(writer, 40)
    with RingWriter(namespace, "s", interval_ns=interval_ns, capacity=capacity) as writer:
        assert (writer.header.capacity, writer.header.interval_ns) == (capacity, interval_ns)
        assert writer.history() == list(range(41 - min(capacity, 16), 41))
        append_proof(writer)
        for sequence in writer.history():
            check(frame_of(writer, sequence), 4)
        assert writer.head == 41


@pytest.mark.parametrize("announcement", ["kept", "zeroed"])
def test_after_damage_to_the_catalog_no_new_series_is_credited_with_old_samples(
    namespace: str, announcement: str, caplog: pytest.LogCaptureFixture
) -> None:
    with open_writer(namespace, columns=3) as writer:
        append_proof(writer, 12)
        used = writer._catalog.used
    overwrite(ring_path(namespace, "s"), HEADER_BYTES + used - 1 - 8, b"?")
    if announcement == "zeroed":
        overwrite(ring_path(namespace, "s"), 8 * WORD_CATALOG_USED, bytes(8))
    with caplog.at_level(logging.ERROR), open_writer(namespace) as writer:
        assert "catalog damaged" in caplog.text
        assert list(writer.columns) == [("gauge", ("0",)), ("gauge", ("1",))]
        new = writer.add_series(GAUGE, ("new",))
        assert new.column == 2
        assert writer.history() == list(range(5, 13))
        for sequence in writer.history():
            frame = frame_of(writer, sequence)
            assert [frame.value(i) for i in range(3)] == [*proof(sequence, 2), None]
        with RingReader(namespace, "s") as reader:
            assert not reader.catalog.error
            assert set(reader.frames().values[:, 2].view("u8").tolist()) == {STALE_NAN_BITS}


def test_a_corrupt_segment_is_set_aside_and_its_readers_see_that_it_was_replaced(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 3)
    with RingReader(namespace, "s") as reader:
        overwrite(ring_path(namespace, "s"), 32, b"?")
        with caplog.at_level(logging.ERROR), open_writer(namespace, columns=2) as writer:
            assert writer.head == 0
            assert "set aside" in caplog.text
            assert is_replaced(reader)
    assert [path.suffix for path in files_of(namespace)] == [".corrupt", ".lock", ".ring"]


def test_a_width_over_the_layouts_limit_is_refused_and_the_ring_goes_on(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer:
        with pytest.raises((MetricError, NoSpace), match="at most 1048576"):
            writer.reserve(1 << 20)
        append_proof(writer)


def test_writer_and_reader_of_the_latest_frame_bring_in_neither_numpy_nor_asyncio(namespace: str) -> None:
    program = f"""
import os, sys
from shm.metric import Metric
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter
with RingWriter({namespace!r}, "s", interval_ns=10**9, capacity=8) as writer:
    writer.add_series(Metric("a", "gauge", "A."), ())
    writer.append([1.0], 1, 1)
    with RingReader({namespace!r}, "s") as reader:
        assert reader.latest().value(0) == 1.0
assert not {{"numpy", "asyncio", "httpx", "psutil"}} & set(sys.modules)
assert open(f"/proc/self/task/{{os.getpid()}}/children").read() == "", "a resource tracker was started"
"""
    run_python(program)
    assert ring_path(namespace, "s").exists()


# ---- files that somebody removes -----------------------------------------------------------------------------


def _take_the_name(path: Path, header: Header) -> None:
    path.rename(path.with_suffix(".moved"))
    path.write_bytes(path.with_suffix(".moved").read_bytes())


def _cut_and_extend(path: Path, header: Header) -> None:
    os.truncate(path, 0)
    os.truncate(path, header.segment_bytes)


@pytest.mark.parametrize(
    ("harm", "left", "what"),
    [
        (lambda path, header: path.unlink(), 5, "was removed"),
        (lambda path, header: os.truncate(path, header.slot_offset(4)), 3, "was cut or extended to 8528 bytes"),
        (lambda path, header: os.truncate(path, 0), 0, "was cut or extended to 0 bytes"),
        (lambda path, header: os.truncate(path, header.segment_bytes + 4096), 5, "was cut or extended to "),
        (_cut_and_extend, 0, "had a hole cut into it"),
        (lambda path, header: overwrite(path, 0, bytes(256)), 5, "had its header overwritten"),
        (_take_the_name, 5, "lost its name to another file"),
    ],
)
def test_a_ring_whose_file_somebody_harmed_is_published_again_with_the_history_that_is_left(
    namespace: str,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Path, Header], None],
    left: int,
    what: str,
) -> None:
    with open_writer(namespace, columns=2, capacity=16) as writer:
        append_proof(writer, 5)
        harm(ring_path(namespace, "s"), writer.header)
        writer.keep_published()
        append_proof(writer)
        with RingReader(namespace, "s") as reader:
            assert [series.label_values for series in reader.series] == [("0",), ("1",)]
            assert whole_frames(reader, 2) == writer.history()
        assert writer.history() == [*range(1, left + 1), 6], "numbers are never given twice"
        inode = ring_path(namespace, "s").stat().st_ino
        writer.keep_published()
        assert ring_path(namespace, "s").stat().st_ino == inode, "nothing is rebuilt while the file is whole"
    [record] = [record for record in caplog.records if record.name == "shm.ring.writer"]
    assert record.message == "ring published again"
    assert what in record.__dict__["error"]


def test_a_writer_whose_lock_was_removed_ends_rather_than_write_beside_another(namespace: str) -> None:
    with open_writer(namespace, columns=1) as writer:
        append_proof(writer)
        lock_path(namespace, "s").unlink()
        with pytest.raises(RingLost, match=r"its lock .* was removed"):
            writer.keep_published()


def test_columns_of_series_gone_for_a_whole_ring_are_freed_when_asked_for(namespace: str) -> None:
    with open_writer(namespace, columns=3, capacity=8) as writer:
        append_proof(writer)
        assert not writer.prune()
        for _ in range(8):
            writer.append([1.0, STALE, 3.0], 1, 1)
        assert writer.prune()
        assert [key[1] for key in writer.columns] == [("0",), ("2",)]
        with RingReader(namespace, "s") as reader:
            frame = latest(reader)
            assert [frame.value(column) for column in range(2)] == [1.0, 3.0]


def test_a_writer_that_lost_its_lock_does_not_sign_its_successor_off(namespace: str) -> None:
    first = open_writer(namespace, columns=1)
    append_proof(first)
    lock_path(namespace, "s").unlink()
    with ring_writer(namespace) as successor:
        with pytest.raises(RingLost):
            first.keep_published()
        first.close()
        with RingReader(namespace, "s") as reader:
            assert reader.writer.pid == successor.pid


def test_closing_gives_the_lock_back_whatever_became_of_the_file(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = open_writer(namespace, columns=1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", no_room)
        writer.close()
    open_writer(namespace).close()


def test_a_rebuilt_ring_is_news_once_it_has_frames(namespace: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "shm.ring.lifecycle"), open_writer(namespace, columns=1) as writer:
        writer.reserve(100)
        append_proof(writer)
        writer.reserve(1000)
    assert [record.levelname for record in caplog.records if record.message == "ring rebuilt"] == ["DEBUG", "INFO"]
