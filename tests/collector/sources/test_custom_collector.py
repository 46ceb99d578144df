"""A custom collector of prometheus_client as a source: what a ring has of each of its families."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import pytest
from prometheus_client import CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Metric, Summary
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeHistogramMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    NativeHistogram,
    SummaryMetricFamily,
    Timestamp,
    UnknownMetricFamily,
)
from prometheus_client.parser import text_string_to_metric_families

from collector.frame.collector import MetricCollector
from collector.source import Collection, Sample
from collector.sources import custom_collector
from collector.sources.custom_collector import CustomCollectorSource
from tests.exporter.scene import page_of


class Given:
    def __init__(self, *families: object) -> None:
        self.families: Iterable[object] = families

    def collect(self) -> Iterable[object]:
        return self.families


def collected(*families: object) -> Collection:
    return CustomCollectorSource("given", Given(*families)).collect()


def gauge(name: str = "g", *samples: tuple[dict[str, str], object]) -> Metric:
    found = Metric(name, "G.", "gauge")
    for labels, value in samples or (({}, 1.0),):
        found.add_sample(name, labels, value)  # type: ignore[arg-type]  # also what is no number
    return found


def test_every_type_of_a_registry_is_on_the_page_as_prometheus_client_writes_it(namespace: str) -> None:
    registry = CollectorRegistry()
    Counter("jobs", "Jobs done.", ("queue",), registry=registry).labels("mail").inc(3)
    Gauge("depth", "Jobs waiting.", ("queue", "host"), unit="jobs", registry=registry).labels("mail", "é").set(-2.5)
    histogram = Histogram("took_seconds", "Time.", ("path",), buckets=(0.1, 1.0), registry=registry)
    for value in (0.05, 0.5, 5.0):
        histogram.labels("/").observe(value)
    Summary("size_bytes", "Size.", registry=registry).observe(100)
    Info("build", "Release.", registry=registry).info({"version": "1.2"})
    Enum("state", "State.", states=("idle", "busy"), registry=registry).state("busy")
    registry.register(Given(UnknownMetricFamily("other", "Other.", value=9.0)))  # type: ignore[arg-type]
    source = CustomCollectorSource("given", registry)
    with MetricCollector("given", namespace=namespace, capacity=64) as collector:
        [result] = collector.collect_from_sources([source], 30)
        assert result.errors == []
        assert result.up
        collector.commit()
    ours = {one.name: one for one in text_string_to_metric_families(page_of(namespace))}
    types = {"state": "gauge", "build_info": "gauge", "other": "unknown"}
    for theirs in registry.collect():
        name = "build_info" if theirs.name == "build" else theirs.name
        assert ours[name].type == types.get(name, theirs.type)
        assert ours[name].documentation == theirs.documentation
        wanted = {(s.name, *sorted(s.labels.items()), s.value) for s in theirs.samples if "_created" not in s.name}
        assert {(s.name, *sorted(s.labels.items()), s.value) for s in ours[name].samples} == wanted
    assert len(ours) == 7


def test_histograms_and_summaries_are_counted_elsewhere() -> None:
    histogram = HistogramMetricFamily("h", "H.", labels=["a"], unit="seconds")
    histogram.add_metric(["x"], [("0.5", 1), ("+Inf", 4)], sum_value=7.5)
    summary = SummaryMetricFamily("s", "S.", labels=["a"])
    summary.add_metric(["x"], count_value=2, sum_value=3.0)
    found = collected(histogram, summary)
    assert found.samples == [
        Sample("h_seconds", None, {"a": "x"}, counted=(1.0, 4.0, 7.5)),
        Sample("s", None, {"a": "x"}, counted=[2.0, 3.0]),
    ]
    assert [(one.name, one.type, one.unit, one.buckets) for one in found.metrics] == [
        ("h_seconds", "histogram", "seconds", (0.5,)), ("s", "summary", "", ()),
    ]  # fmt: skip


def test_quantiles_and_gauge_histograms_are_untyped_samples() -> None:
    summary = Metric("s", "S.", "summary")
    for name, labels, value in (("s", {"quantile": "0.5"}, 1.0), ("s_count", {}, 2.0), ("s_sum", {}, 3.0)):
        summary.add_sample(name, labels, value)
    found = collected(summary, GaugeHistogramMetricFamily("g", "G.", buckets=[("1", 4), ("+Inf", 5)], gsum_value=6))
    assert {one.type for one in found.metrics} == {"untyped"}
    assert [(one.metric, dict(one.labels), one.value) for one in found.samples] == [
        ("s", {"quantile": "0.5"}, 1.0), ("s_count", {}, 2.0), ("s_sum", {}, 3.0),
        ("g_bucket", {"le": "1"}, 4.0), ("g_bucket", {"le": "+Inf"}, 5.0), ("g_gcount", {}, 5.0), ("g_gsum", {}, 6.0),
    ]  # fmt: skip


def test_a_histogram_without_a_sum_and_a_gauge_with_a_bound_are_untyped_samples() -> None:
    below = HistogramMetricFamily("h", "H.", buckets=[("-1", 2), ("+Inf", 3)], sum_value=1)
    found = collected(below, gauge("g", ({"le": "1"}, 1.0)))
    assert found.errors == []
    assert [(one.name, one.type) for one in found.metrics] == [("h_bucket", "untyped"), ("g", "untyped")]


def test_a_sample_that_is_no_part_of_its_histogram_is_untyped() -> None:
    histogram = HistogramMetricFamily("h", "H.", buckets=[("1", 1), ("+Inf", 1)], sum_value=1)
    histogram.add_sample("h_max", {}, 7)
    found = collected(histogram)
    assert found.errors == []
    assert [(one.name, one.type) for one in found.metrics] == [("h", "histogram"), ("h_max", "untyped")]


def test_a_single_value_may_have_its_own_time() -> None:
    found = GaugeMetricFamily("g", "G.")
    found.add_metric([], 1.0, timestamp=Timestamp(1_700_000_000, 500_000_000))
    assert collected(found).samples == [Sample("g", 1.0, {}, 1_700_000_000.5)]


def test_a_label_that_only_some_series_have_is_empty_on_the_others() -> None:
    found = collected(gauge("g", ({"a": "1"}, 1.0), ({"b": "2"}, 2.0), ({}, 3.0)))
    assert [dict(one.labels) for one in found.samples] == [{"a": "1", "b": ""}, {"a": "", "b": "2"}, {"a": "", "b": ""}]
    assert found.errors == []


def late() -> Metric:
    histogram = HistogramMetricFamily("h", "H.")
    histogram.add_metric([], [("1", 1), ("+Inf", 1)], sum_value=1, timestamp=1.0)
    return histogram


def native() -> Metric:
    found = Metric("h", "H.", "histogram")
    found.add_sample("h", {}, 0, native_histogram=NativeHistogram(1, 1.0, 0, 0.0, 0))
    return found


@pytest.mark.parametrize(
    ("family", "said"),
    [
        (gauge("g", ({"stat": "avg"}, 1.0), ({"stat": "max"}, 2.0)), "'stat' of metric 'g' is reserved"),
        (gauge("a.b"), "metric name 'a.b' is not a Prometheus name"),
        (gauge("collector_up"), "the name collector_up belongs to the gauge collector_up of fogmetrics itself"),
        (gauge("good"), "a series of good is in another family too"),
        (CounterMetricFamily("good", "C.", value=1), "the name good belongs to the gauge good of another family"),
        (CounterMetricFamily("c", "C.", value=-1), "the counter c_total is -1; a counter is never below 0"),
        (HistogramMetricFamily("h", "H.", buckets=[("1", 2), ("+Inf", 1)], sum_value=1), "buckets are cumulative"),
        (late(), "h_bucket has a timestamp, which only a single value may have"),
        (native(), "h is a native histogram; give it classic buckets"),
        (gauge("g", ({}, "many")), "ValueError: could not convert string to float"),
    ],
)  # fmt: skip
def test_what_a_ring_can_t_hold_is_an_error_by_name_and_costs_no_other_family(family: Metric, said: str) -> None:
    found = collected(gauge("good"), family, gauge("last"))
    assert [one.metric for one in found.samples] == ["good", "last"]
    [error] = found.errors
    assert error.startswith(f"metric family {family.name!r}: ")
    assert said in error
    assert found.up


def test_a_bad_series_costs_none_of_its_family() -> None:
    bad = gauge("g", ({"a": "1"}, 1.0), ({"a": "x" * 1001}, 2.0), ({"a": "2"}, None), ({"a": "3"}, 3.0))
    histogram = HistogramMetricFamily("h", "H.", labels=["a"])
    histogram.add_metric(["1"], [("1", 2), ("+Inf", 1)], sum_value=1)
    histogram.add_metric(["2"], [("1", 1), ("+Inf", 1)], sum_value=1)
    found = collected(bad, histogram)
    assert [dict(one.labels) for one in found.samples] == [{"a": "1"}, {"a": "3"}, {"a": "2"}]
    assert [error.split(" of ")[0] for error in found.errors[:1]] == ["metric family 'g': label 'a'"]
    assert len(found.errors) == 3


def test_of_two_samples_of_one_series_the_first_is_kept_and_the_other_is_an_error_that_names_the_series() -> None:
    histogram = HistogramMetricFamily("h", "H.", buckets=[("1", 1), ("+Inf", 1)], sum_value=1)
    histogram.add_metric([], [("1", 2), ("+Inf", 2)], sum_value=2)
    found = collected(gauge("g", ({"a": "x"}, 1.0), ({"a": ""}, 2.0), ({"a": "x"}, 3.0), ({}, 4.0)), histogram)
    assert [(dict(one.labels), one.value, one.counted) for one in found.samples] == [
        ({"a": "x"}, 1.0, None), ({"a": ""}, 2.0, None), ({}, None, (1.0, 1.0, 1.0)),
    ]  # fmt: skip
    assert found.errors == [
        f"metric family {family!r}: two samples of {series}; the first is kept, remove the other"
        for family, series in (
            ("g", 'g{a="x"}'), ("g", "g"), ("h", 'h_bucket{le="1"}'), ("h", 'h_bucket{le="+Inf"}'), ("h", "h_count"),
            ("h", "h_sum"),
        )
    ]  # fmt: skip


def test_what_is_no_family_and_families_without_end_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custom_collector, "_MOST_FAMILIES", 100)
    found = collected(gauge("good"), Sample("x", 1.0))
    assert [one.metric for one in found.samples] == ["good"]
    [error] = found.errors
    assert error.startswith("collect() of source 'given' returned Sample(metric='x'")
    endless = Given()
    endless.families = map(gauge, map("g{}".format, itertools.count()))
    found = CustomCollectorSource("given", endless).collect()
    assert len(found.samples) == 100
    assert found.errors == ["collect() of source 'given' returned over 100 families; return fewer"]


def test_nothing_of_it_that_can_be_held_is_down_and_nothing_at_all_is_not() -> None:
    assert not collected(gauge("a.b")).up
    assert collected().up


def test_what_the_collector_raises_is_for_the_collection() -> None:
    def fails() -> Iterator[Metric]:
        yield gauge("good")
        raise OSError("no idea")

    given = Given()
    given.families = fails()
    with pytest.raises(OSError, match="no idea"):
        CustomCollectorSource("given", given).collect()
