"""Metrics, series and the rules that both obey."""

from __future__ import annotations

from typing import Any

import pytest

from shm.errors import MetricError
from shm.metric import DEFAULT_BUCKETS_MS, Metric, Series, escape_label, increase, series_key


def metric(**fields: Any) -> Metric:
    return Metric(**({"name": "app_requests", "type": "counter", "help": "Requests."} | fields))


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"name": ""}, "'' is not a Prometheus name"),
        ({"name": "a\n"}, "is not a Prometheus name"),
        ({"name": 7}, "metric name is 7, of type int; give a string"),
        ({"name": "a" * 201}, "metric name has 201 characters; at most 200"),
        ({"type": "stateset"}, "type 'stateset'; use one of gauge, counter, histogram, summary, untyped"),
        ({"help": "x" * 2001}, "help of metric 'app_requests' has 2001 characters"),
        ({"help": "\ud800"}, "not valid Unicode"),
        ({"label_names": ("a", "a")}, "names a label twice: a, a"),
        ({"label_names": ("__a",)}, "label name '__a'"),
        ({"label_names": ("a\n",)}, r"label name 'a\\n'"),
        ({"label_names": ("le",)}, "'le' of metric 'app_requests' is reserved for the bucket bounds"),
        ({"label_names": ("stat",)}, "reserved for the statistics"),
        ({"label_names": tuple(f"l{i}" for i in range(33))}, "has 33 labels; at most 32"),
        ({"buckets": (1.0,)}, "is of type counter, but only a histogram has buckets"),
        ({"type": "histogram"}, "has 0 buckets; give 1 to 64"),
        ({"type": "histogram", "buckets": (1.0, 1.0)}, "buckets that do not rise"),
        ({"type": "histogram", "buckets": (1.0, float("inf"))}, "not finite"),
        ({"type": "histogram", "buckets": (float("nan"),)}, "not finite"),
    ],
)
def test_a_metric_that_breaks_a_rule_is_refused_and_the_message_names_it(fields: dict[str, Any], says: str) -> None:
    with pytest.raises(MetricError, match=says):
        metric(**fields)


@pytest.mark.parametrize("name", ["http.requests", "0abc", "größe", "日本", "a b", 'a"b\\'])
def test_names_may_have_any_characters_that_can_be_printed(name: str) -> None:
    assert metric(name=name, label_names=(name,)).sample_names[0] == name


def test_an_untyped_metric_may_be_a_part_of_another_programs_summary_or_histogram() -> None:
    one = metric(type="untyped", name="rpc_seconds", label_names=("quantile", "le"))
    assert one.columns == 1
    assert one.sample_names == (one.family,) == ("rpc_seconds",)
    with pytest.raises(MetricError, match="reserved for the statistics"):
        metric(type="untyped", label_names=("stat",))


def test_a_gauge_takes_one_column_and_a_histogram_three_more_than_its_buckets() -> None:
    assert metric().columns == 1
    assert metric(type="histogram", buckets=DEFAULT_BUCKETS_MS).columns == 15


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ({}, r"has the labels \(a\), but the sample has \(\)"),
        ({"a": "1", "b": "2"}, r"but the sample has \(a, b\)"),
        ({"a": 1}, "label 'a' of metric 'app_requests' is 1, of type int"),
        ({"a": "x" * 1001}, "has 1001 characters"),
        ({"a": "\udcff"}, "not valid Unicode"),
    ],
)
def test_labels_that_do_not_fit_the_metric_are_refused(labels: Any, says: str) -> None:
    with pytest.raises(MetricError, match=says):
        metric(label_names=("a",)).label_values(labels)


def test_a_series_knows_its_labels_columns_and_key() -> None:
    series = Series(metric(type="histogram", buckets=(1.0, 2.0), label_names=("a",)), ("x",), 7)
    assert series.labels == {"a": "x"}
    assert (series.column, series.end) == (7, 12)
    assert series_key(series) == ("app_requests", ("x",))


def test_the_increase_of_a_counter_is_what_it_grew_by_or_after_a_reset_what_it_has() -> None:
    assert increase(3.0, 10.0) == 7.0
    assert increase(10.0, 10.0) == 0.0
    assert increase(10.0, 4.0) == 4.0
    assert increase(None, 4.0) is None
    assert increase(4.0, None) is None


def test_label_values_are_escaped_for_the_text_formats() -> None:
    assert escape_label('a\\b"c\nd') == r"a\\b\"c\nd"
