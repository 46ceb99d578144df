"""What is kept of long windows: to the bit what is computed from all samples, whatever happened in between."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporter.window.incremental import ordering, rolling
from exporter.window.incremental.blocks import BLOCK_FRAMES
from exporter.window.incremental.rolling import Rolling, is_long
from exporter.window.ring_window import Window
from exporter.window.statistics import COUNTER_STATS, STATS, aggregate, calculate_rate
from shm.files import unlink
from shm.ring.layout import FLAG_TICK, STALE_NAN_BITS
from shm.ring.reader import RingReader
from shm.ring.windows import GUARD_SLOTS
from tests.rings import SECOND_NS, open_writer, overwrite

Floats = NDArray[np.float64]

CAPACITY = 400
LEAST_FRAMES = 4 * BLOCK_FRAMES  # here, so that there is less to append
SERIES = 5
COLUMNS = np.array([3, 0, 1], dtype=np.intp)  # neither all, nor in order
ABSENT = float(np.array([STALE_NAN_BITS], dtype=np.uint64).view(np.float64)[0])
_numbers = itertools.count()


@pytest.fixture(autouse=True, scope="module")
def shorter() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rolling, "LEAST_FRAMES", LEAST_FRAMES)
        yield


class History:
    """A ring that grows, and a reader of it."""

    def __init__(self, name: str, capacity: int = CAPACITY) -> None:
        self.writer = open_writer(name, capacity=capacity, columns=SERIES)
        self.reader = RingReader(name, "s")
        self.now_ns = 1_700_000_000 * SECOND_NS

    def append(self, values: Floats, seconds: float = 1, flags: int = FLAG_TICK) -> None:
        self.now_ns += int(seconds * SECOND_NS)
        self.writer.append(np.ascontiguousarray(values).data, self.now_ns, self.now_ns // 2, flags)

    def window(self, seconds: float) -> Window:
        return Window(self.reader, self.now_ns - int(seconds * SECOND_NS), self.now_ns)


@contextmanager
def history(capacity: int = CAPACITY) -> Iterator[History]:
    name = f"rolling-{os.getpid()}-{next(_numbers)}"
    one = History(name, capacity)
    try:
        yield one
    finally:
        one.reader.close()
        one.writer.close()
        unlink(name, "s", lock_too=True)


def fresh(window: Window, kind: Callable[[], Rolling]) -> dict[str, Floats]:
    anew = kind()
    assert anew.update(window)
    return anew.statistics()


def samples() -> Rolling:
    return Rolling(COLUMNS, STATS, LEAST_FRAMES)


def counters() -> Rolling:
    return Rolling(COLUMNS, COUNTER_STATS, LEAST_FRAMES)


def assert_same_bits(found: dict[str, Floats], right: dict[str, Floats]) -> None:
    assert list(found) == list(right)
    for stat, values in found.items():
        np.testing.assert_array_equal(values.view(np.uint64), right[stat].view(np.uint64), err_msg=stat)


def assert_as_computed(found: dict[str, Floats], window: Window) -> None:
    """Against the plain computation: the same samples; sums, in another order, within its rounding."""
    values = window.frames.values[:, COLUMNS]
    for stat, right in aggregate(values, STATS).items():
        if stat in ("sum", "avg"):
            with np.errstate(invalid="ignore"):
                rounding = 1e-13 * np.nansum(np.abs(np.where(np.isfinite(values), values, 0.0)), axis=0)
                close = np.abs(found[stat] - right) <= rounding
            assert (
                close | (found[stat].view("u8") == right.view("u8")) | (np.isnan(found[stat]) & np.isnan(right))
            ).all()
            assert ((found[stat].view("u8") == STALE_NAN_BITS) == (right.view("u8") == STALE_NAN_BITS)).all()
        else:
            np.testing.assert_array_equal(found[stat], right, err_msg=stat)


odd = st.sampled_from([ABSENT, math.nan, math.inf, -math.inf, 0.0, -0.0, 1e300, -1e300, 5e-324])


@given(st.data(), st.integers(0, 2**32), st.lists(odd, max_size=3), st.floats(0, 0.3))
def test_kept_statistics_are_those_of_all_samples(
    data: st.DataObject, seed: int, strange: list[float], share: float
) -> None:
    rng = np.random.default_rng(seed)
    seconds = data.draw(st.sampled_from([LEAST_FRAMES, LEAST_FRAMES + 41, CAPACITY - GUARD_SLOTS]))

    def values() -> Floats:
        some = np.round(rng.normal(50, 20, SERIES), data.draw(st.sampled_from([0, 3]), label="digits"))
        odd_ones = rng.random(SERIES) < share
        if strange:
            some.view(np.uint64)[odd_ones] = np.array(strange).view(np.uint64)[rng.integers(0, len(strange))]
        return some

    short = data.draw(st.sampled_from([0, 1024]), label="sorted completely up to")
    with history() as ring, pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "_SHORT", short)
        for _ in range(data.draw(st.integers(LEAST_FRAMES, CAPACITY + 90))):
            ring.append(values())
        kept = samples()
        for _ in range(data.draw(st.integers(1, 6))):
            for _ in range(data.draw(st.sampled_from([0, 1, 2, 5, BLOCK_FRAMES, BLOCK_FRAMES + 1]))):
                ring.append(values(), data.draw(st.sampled_from([1, 1, 1, 2.5]), label="seconds"))
            window = ring.window(seconds)
            if is_long(window):
                assert kept.update(window)
                assert_same_bits(kept.statistics(), fresh(ring.window(seconds), samples))
                assert_as_computed(kept.statistics(), window)


@given(st.data(), st.integers(0, 2**32), st.floats(0, 0.3), st.floats(0, 0.1))
def test_kept_rates_are_those_of_all_samples(data: st.DataObject, seed: int, gaps: float, resets: float) -> None:
    rng = np.random.default_rng(seed)
    value = np.zeros(SERIES)

    def values() -> Floats:
        value[:] = np.where(rng.random(SERIES) < resets, 0, value + rng.integers(0, 9, SERIES))
        some = value.copy()
        some.view(np.uint64)[rng.random(SERIES) < gaps] = STALE_NAN_BITS
        return some

    with history() as ring:
        for _ in range(data.draw(st.integers(LEAST_FRAMES, CAPACITY + 90))):
            ring.append(values())
        kept = counters()
        for _ in range(data.draw(st.integers(1, 6))):
            for _ in range(data.draw(st.sampled_from([0, 1, 2, 5, BLOCK_FRAMES, BLOCK_FRAMES + 1]))):
                ring.append(values(), data.draw(st.sampled_from([1, 1, 1.5])))
            window = ring.window(LEAST_FRAMES + 40)
            if not is_long(window):
                continue
            assert kept.update(window)
            found = kept.statistics()
            assert_same_bits(found, fresh(ring.window(LEAST_FRAMES + 40), counters))
            frames = window.frames
            rate, increase = calculate_rate(frames.values[:, COLUMNS], frames.monotonic_ns, frames.timestamp_ns)
            assert_same_bits(found, {"rate": rate, "increase": increase})  # whole numbers: sums have no rounding


def test_a_sample_that_is_no_number_counts_as_long_as_it_is_in_the_window() -> None:
    """It makes the sum NaN; when it has left, average and sum are those of the others again, absent ones left out."""
    with history() as ring:
        grown(ring, LEAST_FRAMES)
        for value in (math.nan, ABSENT):
            ring.append(np.full(SERIES, value))
        kept = samples()
        for first in range(0, LEAST_FRAMES + 8, 8):
            window = ring.window(LEAST_FRAMES)
            assert kept.update(window)
            assert np.isnan(kept.statistics()["avg"]).all() == (first <= LEAST_FRAMES - 2)
            assert_same_bits(kept.statistics(), fresh(window, samples))
            assert_as_computed(kept.statistics(), window)
            grown(ring, 8)


def grown(ring: History, frames: int = CAPACITY + 50) -> None:
    for i in range(frames):
        ring.append(np.arange(float(SERIES)) + i % 17.0)


@pytest.mark.parametrize("kind", [samples, counters])
def test_a_reader_that_lives_through_the_loss_of_the_newest_frame_has_what_a_new_one_has(
    kind: Callable[[], Rolling],
) -> None:
    with history() as ring:
        for i in range(LEAST_FRAMES + 50):
            ring.append(np.full(SERIES, float(i * i)))
        kept = kind()
        assert kept.update(ring.window(LEAST_FRAMES))
        ring.writer.close()
        overwrite(ring.writer.path, ring.writer.header.slot_offset(ring.writer.head) + 48, b"damaged!")
        ring.writer = open_writer(ring.writer.namespace, capacity=CAPACITY)
        for _ in range(2):
            ring.append(np.full(SERIES, -1.0))
        window = ring.window(LEAST_FRAMES)
        with RingReader(ring.writer.namespace, "s") as reader:
            expected = Window(reader, ring.now_ns - LEAST_FRAMES * SECOND_NS, ring.now_ns)
            assert (window.whole, window.frame_count) == (expected.whole, expected.frame_count)
            assert not kept.update(window)
            assert window.frames.sequence.tolist() == expected.frames.sequence.tolist()
            assert len(window.timestamp_ns) == LEAST_FRAMES - 1
        for _ in range(LEAST_FRAMES):
            ring.append(np.full(SERIES, 2.0))
        window = ring.window(LEAST_FRAMES)
        assert kept.update(window)
        assert_same_bits(kept.statistics(), fresh(window, kind))


def test_short_windows_and_windows_with_a_hole_are_not_kept() -> None:
    with history() as ring:
        grown(ring, 200)
        assert is_long(ring.window(LEAST_FRAMES))
        assert not is_long(ring.window(LEAST_FRAMES - 1))
        ring.now_ns -= 100 * SECOND_NS  # the wall clock is set back, and frames of that time are there twice
        grown(ring, 20)
        window = ring.window(150)
        assert not is_long(window)
        assert not samples().update(window)
        assert len(window.frames.sequence) == len(window.timestamp_ns) == 120 + 20


def test_a_frame_of_its_own_time_has_counters_put_in_order_as_a_whole() -> None:
    with history() as ring:
        grown(ring)
        kept = counters()
        assert kept.update(ring.window(300))
        ring.append(np.arange(float(SERIES)), flags=0)
        assert not kept.update(ring.window(300))
        grown(ring, 300)
        assert kept.update(ring.window(300)), "it has left the window"


def test_a_new_frame_that_is_torn_is_left_to_the_plain_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    with history() as ring:
        grown(ring)
        kept = samples()
        assert kept.update(ring.window(300))
        ring.append(np.arange(float(SERIES)))
        ring.window(10)  # its timestamp is known, but no copy of it is kept
        window = ring.window(300)
        overwrite(ring.reader.path, ring.reader.header.slot_offset(window.last) + 48, b"\xff")
        assert not kept.update(window)
        assert (len(window.frames.sequence), window.skipped, len(window.timestamp_ns)) == (299, 1, 299)
        grown(ring, 300)
        window = ring.window(300)
        assert kept.update(window)
        assert_same_bits(kept.statistics(), fresh(window, samples))
