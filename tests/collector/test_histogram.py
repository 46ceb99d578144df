from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from collector.histogram import Cumulative

BOUNDS = (1.0, 5.0, 10.0)


@given(st.lists(st.one_of(st.floats(0, 20), st.sampled_from([1.0, 5.0, 10.0, float("inf"), -1.0]))))
def test_each_bucket_counts_the_samples_up_to_and_with_its_bound(values: list[float]) -> None:
    cumulative = Cumulative(BOUNDS)
    for value in values:
        cumulative.observe(value)
    *buckets, total = cumulative.columns()
    assert buckets == [sum(value <= bound for value in values) for bound in (*BOUNDS, float("inf"))]
    expected = 0.0
    for value in values:
        expected += value
    assert total == expected


def test_it_goes_on_from_the_columns_it_is_given() -> None:
    cumulative = Cumulative(BOUNDS, [1, 2, 3, 4, 100.5])
    cumulative.observe(5.0)
    assert list(cumulative.columns()) == [1, 3, 4, 5, 105.5]
