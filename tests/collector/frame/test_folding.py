from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.frame import folding
from collector.frame.folding import Folds, Staged, folded_key, without_gaps
from shm.metric import Metric, SeriesKey

GAUGE = Metric("g", "gauge", "", "", ("path",))
COUNTER = Metric("c", "counter", "", "", ("path",))
COUNTED = Metric("h", "histogram", "", "", ("path",), (1.0, 5.0))


def other(metric: Metric) -> SeriesKey:
    return metric.name, ("other",)


def folded(folds: Folds, metric: Metric, samples: Mapping[str, float], stamp_ns: int | None = None) -> None:
    for path, value in samples.items():
        assert folds.add(metric, other(metric), (metric.name, (path,)), (value,), stamp_ns)


def settled(folds: Folds) -> Staged:
    tick: Staged = {}
    assert folds.settle(tick, {}) == {}
    return tick


def nothing(key: SeriesKey) -> None:
    return None


def test_the_name_of_a_folded_series_has_other_for_the_labels_that_are_folded() -> None:
    assert folded_key(("m", ("a", "b"))) == ("m", ("other", "other"))
    assert folded_key(("m", ("a", "b")), {1}) == ("m", ("a", "other"))


def test_gauges_are_the_sum_of_the_last_samples_of_the_frame() -> None:
    folds = Folds(nothing)
    folded(folds, GAUGE, {"a": 1, "b": 2})
    folded(folds, GAUGE, {"a": 5})
    assert settled(folds) == {other(GAUGE): 7}
    folded(folds, GAUGE, {"b": 1})
    assert settled(folds) == {other(GAUGE): 1}
    assert settled(folds) == {}


def test_counters_add_up_what_came_since_each_began_to_be_folded() -> None:
    folds = Folds(nothing)
    folded(folds, COUNTER, {"a": 100, "b": 1000})
    assert settled(folds) == {other(COUNTER): 0}
    folded(folds, COUNTER, {"a": 103, "b": 1001, "c": 50})
    assert settled(folds) == {other(COUNTER): 4}
    folded(folds, COUNTER, {"c": 51})
    assert settled(folds) == {other(COUNTER): 5}, "who is absent takes nothing away"
    folded(folds, COUNTER, {"a": 104})
    assert settled(folds) == {other(COUNTER): 6}


def test_a_counter_that_fell_was_reset_and_all_it_has_came_since() -> None:
    folds = Folds(nothing)
    for value in (100, 7, 9):
        folded(folds, COUNTER, {"a": value})
        found = settled(folds)
    assert found == {other(COUNTER): 9}


def test_the_total_goes_on_from_what_the_ring_has() -> None:
    folds = Folds(lambda key: (40.0,) if key == other(COUNTER) else None)
    folded(folds, COUNTER, {"a": 100})
    assert settled(folds) == {other(COUNTER): 40}
    folded(folds, COUNTER, {"a": 101})
    assert settled(folds) == {other(COUNTER): 41}


def test_a_series_that_bears_the_name_itself_brings_what_it_has() -> None:
    folds = Folds(nothing)
    folded(folds, COUNTER, {"other": 100})
    assert settled(folds) == {other(COUNTER): 100}
    folded(folds, COUNTER, {"other": 101, "a": 5})
    assert settled(folds) == {other(COUNTER): 101}
    folded(folds, COUNTER, {"other": 102, "a": 6})
    assert settled(folds) == {other(COUNTER): 103}


@given(st.lists(st.dictionaries(st.sampled_from("abc"), st.floats(0, 1e12)), max_size=20))
def test_a_folded_counter_never_falls(frames: list[dict[str, float]]) -> None:
    folds = Folds(nothing)
    before = 0.0
    for samples in frames:
        folded(folds, COUNTER, samples)
        for value in settled(folds).values():
            assert value is not None
            assert value >= before
            before = value


def test_frames_of_their_own_are_added_up_before_the_tick_the_oldest_first() -> None:
    folds = Folds(nothing)
    folded(folds, COUNTER, {"a": 3}, None)
    folded(folds, COUNTER, {"a": 2}, 20)
    folded(folds, COUNTER, {"a": 1}, 10)
    tick: Staged = {}
    apart: dict[int, Staged] = {}
    folds.settle(tick, apart)
    assert (apart[10], apart[20], tick) == ({other(COUNTER): 0}, {other(COUNTER): 1}, {other(COUNTER): 2})


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_what_is_no_number_does_not_stay_in_the_total(bad: float) -> None:
    folds = Folds(nothing)
    for value in (1, bad, 3):
        folded(folds, COUNTER, {"a": value})
        found = settled(folds)
    assert found == {other(COUNTER): 2}


def test_counted_histograms_add_up_bucket_by_bucket_and_fall_as_a_whole() -> None:
    folds = Folds(nothing)
    into = other(COUNTED)
    for columns in ((1.0, 2.0, 3.0, 9.0), (1.0, 3.0, 5.0, 20.0), (0.0, 1.0, 6.0, 7.0), (0.0, 1.0, 7.0, 6.5)):
        folds.add(COUNTED, into, ("h", ("a",)), columns, None)
        tick: Staged = {}
        counted = folds.settle(tick, {})
        assert tick == {into: None}
    # 0, then +(0,1,2,11), then all of the third, whose first buckets fell, then +(0,0,1,-0.5): only the sum fell.
    assert counted == {into: (0.0, 2.0, 9.0, 17.5)}


def test_summaries_add_up_count_and_sum() -> None:
    summary = Metric("s", "summary", "", "", ("path",))
    folds = Folds(nothing)
    for columns in ((2.0, 10.0), (5.0, 8.0), (1.0, 3.0)):  # the last one is after a reset
        assert folds.add(summary, other(summary), ("s", ("a",)), columns, None)
        assert folds.add(summary, other(summary), ("s", ("b",)), (columns[0] * 2, columns[1] * 2), None)
        tick: Staged = {}
        counted = folds.settle(tick, {})
        assert tick == {other(summary): None}
    assert counted == {other(summary): (3 + 6 + 1 + 2, -2 - 4 + 3 + 6)}


def test_a_bucket_that_a_series_lacks_counts_as_the_next_lower_one() -> None:
    assert without_gaps((1, None, 3, 9.5)) == (1, 1, 3, 9.5)
    assert without_gaps((None, 2, None, None)) == (0, 2, 2, 0)


def test_who_got_a_place_of_its_own_is_counted_in_no_fold_meanwhile() -> None:
    folds = Folds(nothing)
    folded(folds, COUNTER, {"a": 1})
    settled(folds)
    folds.forget_series(("c", ("a",)))
    folded(folds, COUNTER, {"a": 500})
    assert settled(folds) == {other(COUNTER): 0}


def test_what_was_freed_begins_anew() -> None:
    folds = Folds(nothing)
    for value in (1, 5):
        folded(folds, COUNTER, {"a": value})
        settled(folds)
    folds.keep({other(COUNTER)})
    folded(folds, COUNTER, {"a": 6})
    assert settled(folds) == {other(COUNTER): 5}
    folds.keep(set())
    folded(folds, COUNTER, {"a": 7})
    assert settled(folds) == {other(COUNTER): 0}


def test_a_metric_that_begins_anew_leaves_nothing_staged_or_counted() -> None:
    folds = Folds(nothing)
    for value in (1, 5):
        folded(folds, COUNTER, {"a": value})
        settled(folds)
    folded(folds, COUNTER, {"a": 6})
    folded(folds, GAUGE, {"a": 1})
    folds.forget_metrics({"c"})
    assert settled(folds) == {other(GAUGE): 1}
    folded(folds, COUNTER, {"a": 7})
    assert settled(folds) == {other(COUNTER): 0}


def test_a_flood_of_series_is_bounded_within_a_frame_and_over_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "MOST_FOLDED", 10)
    folds = Folds(nothing)
    accepted = [folds.add(COUNTER, other(COUNTER), ("c", (str(i),)), (1.0,), None) for i in range(12)]
    assert accepted == [True] * 10 + [False] * 2
    assert folds.add(COUNTER, other(COUNTER), ("c", ("3",)), (2.0,), None), "it is in the frame already"
    settled(folds)
    for start in range(100, 1000, 10):
        folded(folds, COUNTER, {str(i): 1.0 for i in range(start, start + 10)})
        settled(folds)
        assert len(folds._last) <= 20


def test_who_is_folded_into_another_series_than_before_begins_there() -> None:
    folds = Folds(nothing)
    for into, value in (("other", 1.0), ("second", 500.0), ("second", 501.0)):
        folds.add(COUNTER, ("c", (into,)), ("c", ("a",)), (value,), None)
        found = settled(folds)
    assert found == {("c", ("second",)): 1}
