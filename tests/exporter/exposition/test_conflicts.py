"""Whose series a page has when several rings claim the same names."""

from __future__ import annotations

import pytest

from exporter.exposition.conflicts import EXPORTER, Conflict, Family, Placed, gather
from shm.metric import Metric, Series

GAUGE = Metric("x", "gauge", "X.", "", ("a",))


def metric(name: str, kind: str, buckets: tuple[float, ...] = (1.0,)) -> Metric:
    return Metric(name, kind, "H.", buckets=buckets if kind == "histogram" else ())  # type: ignore[arg-type]


def only(one: Metric) -> list[Series]:
    return [Series(one, (), 0)]


def test_families_come_by_name_and_series_by_ring() -> None:
    y = metric("y", "gauge")
    first, second = [Series(y, (), 0), Series(GAUGE, ("1",), 1)], [Series(GAUGE, ("2",), 0)]
    assert gather([("r", first), ("s", second)]) == (
        [Family(GAUGE, [Placed(0, first[1]), Placed(1, second[0])]), Family(y, [Placed(0, first[0])])],
        [],
    )


def test_the_first_ring_by_name_has_a_series_that_two_claim() -> None:
    series = [Series(GAUGE, ("1",), 0), Series(GAUGE, ("2",), 1)]
    families, conflicts = gather([("r", series[:1]), ("s", series)])
    assert families == [Family(GAUGE, [Placed(0, series[0]), Placed(1, series[1])])]
    assert conflicts == [Conflict("s", "x", "ring 'r' has the same series", 1)]


def test_the_order_of_label_names_and_empty_labels_make_no_other_series() -> None:
    one, other = Metric("x", "gauge", "", "", ("a", "b")), Metric("x", "gauge", "", "", ("b", "a"))
    _, conflicts = gather([("r", [Series(one, ("1", "2"), 0)]), ("s", [Series(other, ("2", "1"), 0)])])
    assert [conflict.series for conflict in conflicts] == [1]
    _, conflicts = gather([("r", only(metric("x", "gauge"))), ("s", [Series(GAUGE, ("",), 0)])])
    assert [conflict.series for conflict in conflicts] == [1]


X_GAUGE, X_COUNTER, X_HISTOGRAM = metric("x", "gauge"), metric("x", "counter"), metric("x", "histogram")


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (X_GAUGE, X_COUNTER, "it is of type counter here and gauge in ring 'r'"),
        (X_HISTOGRAM, X_GAUGE, "it is of type gauge here and histogram in ring 'r'"),
        (X_COUNTER, metric("x_total", "gauge"), "its name x_total belongs to the counter x of ring 'r'"),
        (metric("x_total", "gauge"), X_COUNTER, "its name x_total belongs to the gauge x_total of ring 'r'"),
        (X_HISTOGRAM, metric("x_count", "gauge"), "its name x_count belongs to the histogram x of ring 'r'"),
        (X_HISTOGRAM, metric("x_bucket", "gauge"), "its name x_bucket belongs to the histogram x of ring 'r'"),
        (metric("x_sum", "gauge"), X_HISTOGRAM, "its name x_sum belongs to the gauge x_sum of ring 'r'"),
        (X_COUNTER, metric("x_created", "gauge"), "its name x_created belongs to the counter x of ring 'r'"),
        (X_HISTOGRAM, metric("x", "histogram", (2.0,)), "its buckets differ from those in ring 'r'"),
        (X_COUNTER, metric("x_total", "counter"), "ring 'r' has the same series"),
    ],
)
def test_a_name_has_one_meaning_and_the_first_ring_says_which(first: Metric, second: Metric, reason: str) -> None:
    families, conflicts = gather([("r", only(first)), ("s", only(second))])
    assert [family.metric for family in families] == [first]
    assert conflicts == [Conflict("s", second.name, reason, 1)]


def test_a_refused_metric_takes_no_name_from_others() -> None:
    # The histogram is refused for x_sum, so x_count is free for the gauge after it.
    rings = [("r", only(metric("x_sum", "gauge"))), ("s", only(metric("x", "histogram"))),
             ("t", only(metric("x_count", "gauge")))]  # fmt: skip
    families, conflicts = gather(rings)
    assert [family.metric.name for family in families] == ["x_count", "x_sum"]
    assert [conflict.source for conflict in conflicts] == ["s"]


def test_dropped_series_are_counted_by_ring_metric_and_reason() -> None:
    counters = Metric("x", "counter", "", "", ("a",))
    _, conflicts = gather(
        [("r", [Series(GAUGE, ("1",), 0)]), ("s", [Series(counters, (str(i),), i) for i in range(3)])]
    )
    assert [(conflict.source, conflict.metric, conflict.series) for conflict in conflicts] == [("s", "x", 3)]


def test_a_series_that_is_not_chosen_keeps_its_name_from_others() -> None:
    series = only(metric("x", "gauge"))
    families, conflicts = gather([("r", series), ("s", series)], lambda source, series: source == "s")
    assert families == []
    assert [conflict.source for conflict in conflicts] == ["s"]


def test_a_reserved_name_is_for_no_ring() -> None:
    families, conflicts = gather([("r", only(metric("x", "counter")))], reserved={"x_total"})
    assert families == []
    assert conflicts == [Conflict("r", "x", "the name x_total is the exporter's own", 1)]


def test_the_exporter_keeps_its_series_and_its_types_and_shares_its_families() -> None:
    own, mine = Metric("x", "counter", "Own."), Metric("x", "counter", "X.", "", ("a",))
    series = [Series(mine, ("1",), 0), Series(mine, ("",), 1), Series(metric("x_total", "gauge"), (), 2)]
    families, conflicts = gather([(EXPORTER, only(own)), ("r", series)])
    assert families == [Family(own, [Placed(0, Series(own, (), 0)), Placed(1, series[0])])]
    assert conflicts == [
        Conflict("r", "x", "the exporter has the same series", 1),
        Conflict("r", "x_total", "its name x_total belongs to the counter x of the exporter", 1),
    ]


def test_a_name_that_one_ring_defines_twice_is_what_it_was_first() -> None:
    """No writer enters that; a forged catalog may, and must not make a page that no server takes."""
    series = [Series(X_GAUGE, (), 0), Series(X_HISTOGRAM, (), 1)]
    families, conflicts = gather([("r", series)])
    assert families == [Family(X_GAUGE, [Placed(0, series[0])])]
    assert conflicts == [Conflict("r", "x", "it is of type histogram here and gauge in ring 'r'", 1)]
