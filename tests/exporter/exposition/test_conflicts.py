"""Whose series a page has when several rings claim the same names."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.exposition.conflicts import EXPORTER, Conflict, Family, Placed, Precedence, gather
from shm.metric import Metric, Series

GAUGE = Metric("x", "gauge", "X.", "", ("a",))


def gathered(*arguments: Any, **named: Any) -> tuple[list[Family], list[Conflict]]:
    found = gather(*arguments, **named)
    return found.families, found.conflicts


def metric(name: str, kind: str, buckets: tuple[float, ...] = (1.0,)) -> Metric:
    return Metric(name, kind, "H.", buckets=buckets if kind == "histogram" else ())  # type: ignore[arg-type]


def only(one: Metric) -> list[Series]:
    return [Series(one, (), 0)]


def test_families_come_by_name_and_series_by_ring() -> None:
    y = metric("y", "gauge")
    first, second = [Series(y, (), 0), Series(GAUGE, ("1",), 1)], [Series(GAUGE, ("2",), 0)]
    assert gathered([("r", first), ("s", second)]) == (
        [Family(GAUGE, [Placed(0, first[1]), Placed(1, second[0])]), Family(y, [Placed(0, first[0])])],
        [],
    )


def test_the_first_ring_by_name_has_a_series_that_two_claim() -> None:
    series = [Series(GAUGE, ("1",), 0), Series(GAUGE, ("2",), 1)]
    families, conflicts = gathered([("r", series[:1]), ("s", series)])
    assert families == [Family(GAUGE, [Placed(0, series[0]), Placed(1, series[1])])]
    assert conflicts == [Conflict("s", "x", "ring 'r' has the same series", 1)]


def test_the_order_of_label_names_and_empty_labels_make_no_other_series() -> None:
    one, other = Metric("x", "gauge", "", "", ("a", "b")), Metric("x", "gauge", "", "", ("b", "a"))
    _, conflicts = gathered([("r", [Series(one, ("1", "2"), 0)]), ("s", [Series(other, ("2", "1"), 0)])])
    assert [conflict.series for conflict in conflicts] == [1]
    _, conflicts = gathered([("r", only(metric("x", "gauge"))), ("s", [Series(GAUGE, ("",), 0)])])
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
    families, conflicts = gathered([("r", only(first)), ("s", only(second))])
    assert [family.metric for family in families] == [first]
    assert conflicts == [Conflict("s", second.name, reason, 1)]


def test_a_refused_metric_takes_no_name_from_others() -> None:
    # The histogram is refused for x_sum, so x_count is free for the gauge after it.
    rings = [("r", only(metric("x_sum", "gauge"))), ("s", only(metric("x", "histogram"))),
             ("t", only(metric("x_count", "gauge")))]  # fmt: skip
    families, conflicts = gathered(rings)
    assert [family.metric.name for family in families] == ["x_count", "x_sum"]
    assert [conflict.source for conflict in conflicts] == ["s"]


def test_dropped_series_are_counted_by_ring_metric_and_reason() -> None:
    counters = Metric("x", "counter", "", "", ("a",))
    _, conflicts = gathered(
        [("r", [Series(GAUGE, ("1",), 0)]), ("s", [Series(counters, (str(i),), i) for i in range(3)])]
    )
    assert [(conflict.source, conflict.metric, conflict.series) for conflict in conflicts] == [("s", "x", 3)]


def test_a_series_that_is_not_chosen_keeps_its_name_from_others() -> None:
    series = only(metric("x", "gauge"))
    families, conflicts = gathered([("r", series), ("s", series)], lambda source, series: source == "s")
    assert families == []
    assert [conflict.source for conflict in conflicts] == ["s"]


def test_a_reserved_name_is_for_no_ring() -> None:
    families, conflicts = gathered([("r", only(metric("x", "counter")))], reserved={"x_total"})
    assert families == []
    assert conflicts == [Conflict("r", "x", "the name x_total is the exporter's own", 1)]


def test_the_exporter_keeps_its_series_and_its_types_and_shares_its_families() -> None:
    own, mine = Metric("x", "counter", "Own."), Metric("x", "counter", "X.", "", ("a",))
    series = [Series(mine, ("1",), 0), Series(mine, ("",), 1), Series(metric("x_total", "gauge"), (), 2)]
    families, conflicts = gathered([(EXPORTER, only(own)), ("r", series)])
    assert families == [Family(own, [Placed(0, Series(own, (), 0)), Placed(1, series[0])])]
    assert conflicts == [
        Conflict("r", "x", "the exporter has the same series", 1),
        Conflict("r", "x_total", "its name x_total belongs to the counter x of the exporter", 1),
    ]


def test_a_name_that_one_ring_defines_twice_is_what_it_was_first() -> None:
    """No writer enters that; a forged catalog may, and must not make a page that no server takes."""
    series = [Series(X_GAUGE, (), 0), Series(X_HISTOGRAM, (), 1)]
    families, conflicts = gathered([("r", series)])
    assert families == [Family(X_GAUGE, [Placed(0, series[0])])]
    assert conflicts == [Conflict("r", "x", "it is of type histogram here and gauge in ring 'r'", 1)]


# ---- whose samples are current -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (metric("x", "untyped"), metric("x_total", "counter")),
        (metric("x", "gauge"), X_COUNTER),
        (X_COUNTER, X_GAUGE),
        (metric("x", "summary"), X_HISTOGRAM),
        (metric("x_count", "gauge"), X_HISTOGRAM),
        (X_HISTOGRAM, metric("x_count", "gauge")),
        (X_HISTOGRAM, metric("x", "histogram", (2.0,))),
    ],
)
def test_a_metric_without_samples_hides_none_that_has_some(before: Metric, after: Metric) -> None:
    """As after a release that changed it, in one ring or in another."""
    series = Series(before, (), 0), Series(after, (), before.columns)
    old, new = [1] * before.columns + [0] * after.columns, [0] * before.columns + [1] * after.columns
    for levels, shown in ((old, before), (new, after)):
        families, conflicts = gathered([("r", series)], levels=[levels])
        assert [family.metric for family in families] == [shown]
        assert conflicts == [], "what has no samples hides nothing, and nothing is hidden"
    two = [("r", [series[0]]), ("s", only(after))]
    families, conflicts = gathered(two, levels=[[0] * before.columns, [1] * after.columns])
    assert [family.metric for family in families] == [after]
    assert conflicts == []


def test_the_same_series_is_that_of_the_ring_with_samples_and_others_of_the_metric_stay() -> None:
    series = [Series(GAUGE, ("1",), 0), Series(GAUGE, ("2",), 1)]
    families, conflicts = gathered([("r", series), ("s", series)], levels=[[1, 0], [0, 1]])
    assert families == [Family(GAUGE, [Placed(0, series[0]), Placed(1, series[1])])]
    assert conflicts == []


def test_a_name_stays_where_it_was_while_both_have_samples() -> None:
    rings = [("r", only(X_GAUGE)), ("s", only(X_COUNTER))]
    alone = gather(rings, levels=[[0], [1]])
    assert [family.metric for family in alone.families] == [X_COUNTER]
    both = gather(rings, levels=[[1], [1]], holders=alone.holders)
    assert [family.metric for family in both.families] == [X_COUNTER]
    assert [conflict.source for conflict in both.conflicts] == ["r"]
    gone = gather(rings, levels=[[1], [0]], holders=both.holders)
    assert [family.metric for family in gone.families] == [X_GAUGE]


def test_what_must_be_looked_at_again_are_the_contested_series_alone() -> None:
    free = Series(metric("y", "gauge"), (), 1)
    rings = [("r", [*only(X_GAUGE), free]), ("s", only(X_COUNTER))]
    precedence = Precedence()
    precedence.begin("these rings")
    assert precedence.note(gather(rings, levels=[[1, 1], [0]]))
    assert not precedence.note(gather(rings, levels=[[1, 1], [0]])), "nothing new"
    assert precedence.state([[1, 1], [0]]) == precedence.state([[1, 0], [0]]) != precedence.state([[1, 1], [1]])
    precedence.begin("other rings")
    assert precedence.state([]) == ()
