"""The statistics against plain Python, value for value and bit for bit where a value is absent."""

from __future__ import annotations

import math
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporter.window.statistics import STATS, aggregate, aggregate_by_label, calculate_rate
from shm.ring.frame import absent, all_absent

SECOND = 10**9
NAN = math.nan
INF = math.inf


ABSENT = None  # what a test writes for the stale NaN: the float itself is not safe in arithmetic
Sample = float | None


def matrix(rows: Sequence[Sequence[Sample]], series: int = 1) -> NDArray[np.float64]:
    """Rows of literals → float64, shape (frames, series)."""
    shape = len(rows), len(rows[0]) if rows else series
    found = np.array([[0.0 if one is ABSENT else one for one in row] for row in rows], np.float64).reshape(shape)
    gone = np.array([[one is ABSENT for one in row] for row in rows], np.bool_).reshape(shape)
    return np.where(gone, all_absent(shape), found)


def literals(array: NDArray[np.float64]) -> list[Sample]:
    gone = absent(np.ascontiguousarray(array)).tolist()
    return [ABSENT if missing else one for one, missing in zip(array.tolist(), gone, strict=True)]


def same(one: Sample, other: Sample) -> bool:
    if one is ABSENT or other is ABSENT:
        return one is other
    return one == pytest.approx(other, rel=1e-9, abs=1e-4, nan_ok=True)


def plain(samples: Sequence[Sample]) -> dict[str, Sample]:
    """What the statistics mean, in plain Python."""
    present = [one for one in samples if one is not ABSENT]
    if not present:
        return dict.fromkeys(STATS, ABSENT)
    numbers = sorted(one for one in present if not math.isnan(one))
    infinities = {one for one in numbers if math.isinf(one)}
    if len(numbers) < len(present) or len(infinities) == 2:
        total = NAN
    else:
        total = infinities.pop() if infinities else math.fsum(numbers)

    def at(p: int) -> float:
        index = -(-p * (len(numbers) - 1) // 100)
        return numbers[min(index, len(numbers) - 1)] if numbers else NAN

    return {
        "avg": total / len(present), "min": at(0), "max": at(100), "sum": total,
        "p50": at(50), "p95": at(95), "p99": at(99),
    }  # fmt: skip


def plain_rate(samples: Sequence[Sample], elapsed_ns: Sequence[int]) -> tuple[Sample, Sample]:
    usable = [(one, when) for one, when in zip(samples, elapsed_ns, strict=True)
              if one is not ABSENT and not math.isnan(one)]  # fmt: skip
    if len(usable) < 2:
        return ABSENT, ABSENT
    total = math.fsum(after if after < before else after - before for (before, _), (after, _) in pairwise(usable))
    seconds = (usable[-1][1] - usable[0][1]) / SECOND
    return (total / seconds if seconds > 0 else ABSENT), total


numbers: st.SearchStrategy[Sample] = st.floats(-1e9, 1e9)
samples: st.SearchStrategy[Sample] = st.one_of(numbers, numbers, st.sampled_from([ABSENT, NAN, INF, -INF, 0.0, -0.0]))


@st.composite
def windows(draw: st.DrawFn, values: st.SearchStrategy[Sample] = samples) -> list[list[Sample]]:
    frames, series = draw(st.integers(1, 24)), draw(st.integers(1, 5))
    return draw(st.lists(st.lists(values, min_size=series, max_size=series), min_size=frames, max_size=frames))


def assert_aggregates(rows: list[list[Sample]], stats: Sequence[str] = STATS) -> None:
    got = {stat: literals(array) for stat, array in aggregate(matrix(rows), stats).items()}
    assert list(got) == list(dict.fromkeys(stats))
    for column, one in enumerate(zip(*rows, strict=True)):
        wanted = plain(one)
        assert all(same(got[stat][column], wanted[stat]) for stat in stats), (one, wanted, got)


@given(windows())
def test_every_statistic_is_what_plain_python_computes(rows: list[list[Sample]]) -> None:
    assert_aggregates(rows)


@given(windows(numbers))
def test_a_window_without_gaps_is_what_plain_python_computes(rows: list[list[Sample]]) -> None:
    assert_aggregates(rows)


@given(windows(), st.lists(st.sampled_from(STATS), max_size=4))
def test_a_statistic_does_not_depend_on_which_others_are_asked(rows: list[list[Sample]], stats: list[str]) -> None:
    assert_aggregates(rows, stats)
    every = aggregate(matrix(rows))
    for stat, array in aggregate(matrix(rows), stats).items():
        np.testing.assert_array_equal(array, every[stat])


@pytest.mark.parametrize("count", [1, 2, 21, 100, 101, 201, 1001, 5760])
def test_percentile_positions_are_exact_at_every_size(count: int) -> None:
    got = aggregate(np.arange(count, dtype=float)[::-1].reshape(count, 1))
    for stat, p in (("p50", 50), ("p95", 95), ("p99", 99)):
        assert got[stat].tolist() == [-(-p * (count - 1) // 100)]


def test_absent_samples_are_ignored_and_a_series_of_them_is_absent() -> None:
    got = aggregate(matrix([[1.0, ABSENT], [ABSENT, ABSENT], [3.0, ABSENT]]))
    assert {stat: literals(array) for stat, array in got.items()} == {
        "avg": [2.0, ABSENT], "min": [1.0, ABSENT], "max": [3.0, ABSENT], "sum": [4.0, ABSENT],
        "p50": [3.0, ABSENT], "p95": [3.0, ABSENT], "p99": [3.0, ABSENT],
    }  # fmt: skip


def test_a_window_without_frames_is_absent_everywhere() -> None:
    got = aggregate(matrix([], series=2))
    assert {stat: literals(array) for stat, array in got.items()} == {stat: [ABSENT, ABSENT] for stat in STATS}
    pooled = aggregate_by_label(matrix([], series=2), ["a", "b"], ("p50",))
    assert literals(pooled["p50"]) == [ABSENT, ABSENT]
    rate, increase = calculate_rate(matrix([], series=2), np.empty(0, np.int64), np.empty(0, np.int64))
    assert literals(rate) == literals(increase) == [ABSENT, ABSENT]


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_wide_and_tall_window_is_cut_into_parts_without_a_seam(order: str) -> None:
    values = np.random.default_rng(7).permutation(1300 * 700).reshape(1300, 700).astype(float)
    got = aggregate(np.asarray(values, order="F" if order == "F" else "C"))
    in_order = np.sort(values, axis=0)
    for stat, index in (("min", 0), ("p50", 650), ("p95", 1235), ("p99", 1287), ("max", 1299)):
        np.testing.assert_array_equal(got[stat], in_order[index])
    np.testing.assert_array_equal(got["sum"], values.sum(axis=0))


def test_the_input_is_never_changed() -> None:
    values = np.asfortranarray(matrix([[3.0, ABSENT], [1.0, 5.0], [ABSENT, 4.0]]))
    before = values.tobytes()
    aggregate(values)
    aggregate_by_label(values, ["a", "a"])
    calculate_rate(values, np.arange(3), np.arange(3))
    assert values.tobytes() == before


def test_extra_memory_is_bounded_by_the_part_in_work_and_not_by_the_window() -> None:
    values = np.ones((2000, 2000))
    tracemalloc.start()
    aggregate(values)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < values.nbytes / 2


@given(windows(), st.data())
def test_a_pool_is_the_samples_of_its_series_together(rows: list[list[Sample]], data: st.DataObject) -> None:
    series = len(rows[0])
    labels = data.draw(st.lists(st.sampled_from("abc"), min_size=series, max_size=series))
    got = aggregate_by_label(matrix(rows), labels)
    for position, key in enumerate(dict.fromkeys(labels)):
        wanted = plain([row[column] for column, label in enumerate(labels) if label == key for row in rows])
        assert all(same(literals(got[stat])[position], wanted[stat]) for stat in STATS)


@given(windows(), st.data())
def test_a_weight_is_how_often_a_sample_counts(rows: list[list[Sample]], data: st.DataObject) -> None:
    series = len(rows[0])
    labels = data.draw(st.lists(st.sampled_from("ab"), min_size=series, max_size=series))
    weights = data.draw(st.lists(st.integers(1, 7), min_size=series, max_size=series))
    got = aggregate_by_label(matrix(rows), labels, STATS, np.array(weights, np.float64))
    for position, key in enumerate(dict.fromkeys(labels)):
        chosen = [column for column, label in enumerate(labels) if label == key]
        wanted = plain([row[column] for column in chosen for row in rows for _ in range(weights[column])])
        wanted["sum"] = plain([row[column] for column in chosen for row in rows])["sum"]
        assert all(same(literals(got[stat])[position], wanted[stat]) for stat in STATS)


def test_pools_of_unequal_size_keep_their_order() -> None:
    values = matrix([[1.0, 20.0, 3.0, 400.0], [2.0, 30.0, 4.0, 500.0]])
    got = aggregate_by_label(values, ["x", "y", "x", "z"], ("sum", "max"))
    assert {stat: literals(array) for stat, array in got.items()} == {
        "sum": [10.0, 50.0, 900.0], "max": [4.0, 30.0, 500.0],
    }  # fmt: skip


def test_many_pools_are_cut_into_parts_without_a_seam() -> None:
    values = np.arange(2000.0 * 300).reshape(2000, 300)
    got = aggregate_by_label(values, [str(one // 2) for one in range(300)], ("max",))
    assert got["max"].tolist() == values[-1, 1::2].tolist()


@given(windows(st.one_of(st.integers(0, 1000).map(float), st.sampled_from([ABSENT, NAN]))), st.data())
def test_rates_are_what_plain_python_computes(rows: list[list[Sample]], data: st.DataObject) -> None:
    steps = data.draw(st.lists(st.integers(0, 20), min_size=len(rows), max_size=len(rows)))
    clock = np.cumsum(steps) * SECOND
    rate, increase = calculate_rate(matrix(rows), clock, np.zeros(len(rows), np.int64))
    for column, one in enumerate(zip(*rows, strict=True)):
        wanted = plain_rate(one, clock.tolist())
        assert same(literals(rate)[column], wanted[0])
        assert same(literals(increase)[column], wanted[1])


def rate_of(column: Sequence[Sample], monotonic: Sequence[int], wall: Sequence[int]) -> tuple[Sample, Sample]:
    """Rate and increase of one series; clocks in seconds."""
    clocks = (np.array(clock, np.int64) * SECOND for clock in (monotonic, wall))
    rate, increase = calculate_rate(matrix([[one] for one in column]), *clocks)
    return literals(rate)[0], literals(increase)[0]


@pytest.mark.parametrize(
    ("claim", "column", "monotonic", "wall", "expected"),
    [
        ("steady", [10.0, 40.0, 70.0], [0, 15, 30], [0, 15, 30], (2.0, 60.0)),
        ("a fall is a reset, and counts the value after it", [90.0, 100.0, 5.0, 20.0], [0, 10, 20, 30], [0] * 4,
         (1.0, 30.0)),
        ("two resets", [5.0, 1.0, 0.0, 4.0], [0, 1, 2, 5], [0] * 4, (1.0, 5.0)),
        ("a gap at both ends shortens the time", [ABSENT, 10.0, ABSENT, 30.0, NAN], [0, 10, 20, 30, 40], [0] * 5,
         (1.0, 20.0)),
        ("a reset hidden by a gap", [50.0, NAN, 8.0], [0, 1, 2], [0] * 3, (4.0, 8.0)),
        ("one sample", [7.0, ABSENT], [0, 15], [0, 15], (ABSENT, ABSENT)),
        ("no sample", [ABSENT, ABSENT], [0, 15], [0, 15], (ABSENT, ABSENT)),
        ("a wall clock set back does not matter", [0.0, 10.0, 20.0], [0, 10, 20], [100, 110, 50], (1.0, 20.0)),
        ("a reboot counts by the wall clock", [0.0, 100.0, 110.0], [500, 510, 5], [1000, 1010, 1100], (1.1, 110.0)),
        ("also when the monotonic clock has caught up", [0.0, 60.0, 5.0, 500.0], [10, 20, 1, 500], [0, 10, 101, 600],
         (560.0 / 600.0, 560.0)),
        ("frames of one instant count by the wall clock", [0.0, 10.0], [5, 5], [0, 10], (1.0, 10.0)),
        ("and take no time where that falls", [0.0, 10.0, 20.0], [5, 5, 15], [9, 8, 18], (2.0, 20.0)),
        ("neither clock advances", [0.0, 10.0], [5, 5], [9, 8], (ABSENT, 10.0)),
        ("no change is a rate of zero", [3.0, 3.0], [0, 10], [0, 10], (0.0, 0.0)),
    ],
)  # fmt: skip
def test_a_rate_is_the_increase_over_the_time_in_which_it_was_counted(
    claim: str, column: list[Sample], monotonic: list[int], wall: list[int], expected: tuple[Sample, Sample]
) -> None:
    got = rate_of(column, monotonic, wall)
    assert same(got[0], expected[0]), (claim, got)
    assert same(got[1], expected[1]), (claim, got)


def test_a_large_counter_before_a_reset_costs_the_increase_no_precision() -> None:
    assert rate_of([1e20, 0.0, 1.0, 3.0], [0, 1, 2, 3], [0] * 4) == (1.0, 3.0)
