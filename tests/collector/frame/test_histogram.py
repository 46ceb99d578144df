from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collector.frame.histogram import Cumulative

BOUNDS = (1.0, 5.0, 10.0)


@given(st.lists(st.one_of(st.floats(0, 20), st.sampled_from([1.0, 5.0, 10.0, float("inf"), -1.0]))))
def test_each_bucket_counts_the_samples_up_to_and_with_its_bound(values: list[float]) -> None:
    cumulative = Cumulative(BOUNDS)
    for value in values:
        cumulative.add([(value, 1)], value)
    *buckets, total = cumulative.columns
    assert buckets == [sum(value <= bound for value in values) for bound in (*BOUNDS, float("inf"))]
    expected = 0.0
    for value in values:
        expected += value
    assert total == expected


def test_it_goes_on_from_the_columns_it_is_given() -> None:
    cumulative = Cumulative(BOUNDS, [1, 2, 3, 4, 100.5])
    cumulative.add([(5.0, 1)], 5.0)
    assert list(cumulative.columns) == [1, 3, 4, 5, 105.5]


def test_observations_are_counted_at_the_smallest_bound_that_is_no_lower() -> None:
    cumulative = Cumulative(BOUNDS, [1, 1, 1, 1, 0.5])
    cumulative.add([(0.5, 2), (1.0, 3), (4.0, 5), (5.0, 7), (10.5, 11), (float("inf"), 13)], 500.0)
    assert list(cumulative.columns) == [6, 18, 18, 42, 500.5]


@given(st.lists(st.floats(0, 20)), st.sets(st.sampled_from([0.5, 1.0, 2.0, 5.0, 7.0, 10.0, 15.0])))
def test_observations_are_exact_at_every_bound_that_both_have_and_never_too_low(
    values: list[float], theirs: set[float]
) -> None:
    bounds = [*sorted(theirs), float("inf")]
    counts = tuple(
        (bound, sum(below < value <= bound for value in values))
        for below, bound in zip([-1.0, *bounds], bounds, strict=False)
    )
    cumulative = Cumulative(BOUNDS)
    cumulative.add(counts, sum(values))
    *buckets, total = cumulative.columns
    for bound, counted in zip((*BOUNDS, float("inf")), buckets, strict=True):
        true = sum(value <= bound for value in values)
        assert counted == true if bound in bounds else counted <= true
    assert total == sum(values)
