"""Statistics by metric name, out of the rings of a namespace."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest

from exporter.aggregator import MetricAggregator, SeriesStatistics
from exporter.http.negotiation import Format
from exporter.http.parameters import AggregatedQuery
from shm.errors import MetricError
from shm.metric import Metric
from tests.exporter.scene import NOW_NS, SECOND, Scene

NOW = NOW_NS / SECOND


@pytest.fixture
def aggregator(scene: Scene) -> MetricAggregator:
    """Three frames, at 0, 15 and 30 s from NOW: two rooms' temperatures and a counter; the clock is at 30 s."""
    for at, (hall, attic, packets) in enumerate([(20.0, 5.0, 10.0), (22.0, 7.0, 16.0), (24.0, 9.0, 4.0)]):
        scene.commit(
            "house",
            ("temperature", hall, {"room": "hall"}), ("temperature", attic, {"room": "attic"}), ("packets", packets),
        )  # fmt: skip
        if at < 2:
            scene.advance(15)
    return MetricAggregator(scene.rings())


def by_room(found: list[SeriesStatistics], stat: str) -> dict[str, float]:
    return {labels["room"]: values[stat] for labels, values in found}


def test_each_series_has_the_statistics_of_its_samples(aggregator: MetricAggregator) -> None:
    found = aggregator.aggregate("temperature")
    assert by_room(found, "avg") == {"hall": 22.0, "attic": 7.0}
    assert by_room(found, "p99") == {"hall": 24.0, "attic": 9.0}
    assert list(found[0].values) == ["avg", "min", "max", "sum", "p50", "p95", "p99"]


def test_both_ends_of_a_range_belong_to_it_and_a_window_is_open_at_its_old_end(aggregator: MetricAggregator) -> None:
    assert by_room(aggregator.aggregate("temperature", NOW, NOW + 15), "sum") == {"hall": 42.0, "attic": 12.0}
    assert by_room(aggregator.rolling_window("temperature", 15, NOW + 15), "sum") == {"hall": 22.0, "attic": 7.0}
    assert by_room(aggregator.rolling_window("temperature", 30), "sum") == {"hall": 46.0, "attic": 16.0}


def test_labels_and_statistics_can_be_chosen(aggregator: MetricAggregator) -> None:
    assert aggregator.aggregate("temperature", labels={"room": "attic"}, stats=("max",)) == [
        ({"room": "attic"}, {"max": 9.0})
    ]
    assert aggregator.aggregate("temperature", labels={"room": "cellar"}) == []


def test_samples_that_share_a_label_are_aggregated_together(aggregator: MetricAggregator, scene: Scene) -> None:
    scene.commit("shed", ("temperature", 60.0, {"room": "attic"}), ("temperature", 1.0, {"room": "shed"}))
    found = aggregator.aggregate_by_label("temperature", "room", stats=("max", "p50"))
    # The same series in a second ring: the first by name has it, as on the page.
    assert found == {
        "hall": {"max": 24.0, "p50": 22.0},
        "attic": {"max": 9.0, "p50": 7.0},
        "shed": {"max": 1.0, "p50": 1.0},
    }
    with pytest.raises(MetricError, match="metric 'temperature' has no label 'floor'; its labels are room"):
        aggregator.aggregate_by_label("temperature", "floor")


def test_a_counter_has_rate_and_increase_over_its_reset(aggregator: MetricAggregator) -> None:
    assert aggregator.calculate_rate("packets", 60) == [({}, {"rate": 10.0 / 30, "increase": 10.0})]
    assert aggregator.calculate_rate("packets_total", 60) == aggregator.aggregate("packets")
    with pytest.raises(MetricError, match="counter 'packets' has no statistic 'avg'; it has rate, increase"):
        aggregator.aggregate("packets", stats=("avg",))
    with pytest.raises(MetricError, match="gauge 'temperature' has no statistic 'rate'"):
        aggregator.calculate_rate("temperature", 60)


def test_a_metric_that_no_ring_has_is_named_with_the_closest(aggregator: MetricAggregator) -> None:
    with pytest.raises(MetricError, match="has a metric 'temprature'; did you mean 'temperature'"):
        aggregator.aggregate("temprature")


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf])
def test_a_window_has_a_length(aggregator: MetricAggregator, seconds: float) -> None:
    with pytest.raises(MetricError, match="seconds is"):
        aggregator.rolling_window("temperature", seconds)


def test_a_name_is_the_metric_s_that_had_it_at_the_end_of_the_window(scene: Scene) -> None:
    one = scene.collector("text", Metric("jobs_total", "counter", "J."), Metric("jobs", "gauge", "J."))
    for name, value in (("jobs_total", 1), ("jobs", 4), ("jobs", 5), ("jobs_total", 3)):
        one.record_metric(name, value)
        one.commit(scene.wall_ns, scene.monotonic_ns)
        scene.advance(15)
    aggregator = MetricAggregator(scene.rings())
    assert aggregator.aggregate("jobs", end=NOW + 35, stats=("max",)) == [({}, {"max": 5.0})]
    assert aggregator.rolling_window("jobs", 30, NOW + 35, stats=("sum",)) == [({}, {"sum": 9.0})]
    assert aggregator.aggregate("jobs_total", end=NOW + 50, stats=("increase",)) == [({}, {"increase": 2.0})]
    assert aggregator.aggregate("jobs_total", stats=("increase",)) == [({}, {"increase": 2.0})]


def test_a_stale_ring_gives_way_in_a_window_up_to_now_whose_clock_goes_on(scene: Scene) -> None:
    scene.commit("a_old", ("temperature", 1.0, {"room": "r"}))
    scene.advance(60)
    scene.commit("b_new", ("temperature", 2.0, {"room": "r"}))
    rings, readings = scene.rings(), itertools.count(scene.wall_ns)
    rings.wall = lambda: next(readings)
    aggregator = MetricAggregator(rings)
    assert aggregator.aggregate("temperature", stats=("max",)) == [({"room": "r"}, {"max": 2.0})]
    assert aggregator.rolling_window("temperature", 300, stats=("max",)) == [({"room": "r"}, {"max": 2.0})]
    assert 'temperature{room="r",stat="max"} 2.0' in aggregator.export_prometheus_format("temperature", stats=("max",))


def test_one_collector_s_ring_alone_can_be_aggregated(aggregator: MetricAggregator, scene: Scene) -> None:
    scene.commit("shed", ("temperature", 1.0, {"room": "shed"}))
    shed = dataclasses.make_dataclass("Written", ["name", "namespace"])("shed", scene.namespace)
    with MetricAggregator(shed) as only:
        assert by_room(only.aggregate("temperature", end=NOW + 60), "max") == {"shed": 1.0}
        assert 'room="hall"' not in only.export_prometheus_format("temperature")
    assert by_room(aggregator.aggregate("temperature"), "max") == {"hall": 24.0, "attic": 9.0, "shed": 1.0}


def test_the_text_is_that_of_the_page(aggregator: MetricAggregator, scene: Scene) -> None:
    exporter = scene.exporter()
    for form, openmetrics in ((Format.TEXT, False), (Format.OPENMETRICS, True)):
        page = b"".join(exporter.aggregated_parts(AggregatedQuery(300 * SECOND), form)).decode()
        assert aggregator.export_prometheus_format(openmetrics=openmetrics) == page
    assert "temperature_celsius" not in page
    only = aggregator.export_prometheus_format("temperature", 300, {"room": "hall"}, ("max",))
    assert 'temperature{room="hall",stat="max"} 24.0\n' in only
    assert "attic" not in only


def test_a_damaged_ring_costs_the_others_nothing(aggregator: MetricAggregator, scene: Scene) -> None:
    scene.commit("shed", ("temperature", 1.0, {"room": "shed"}))
    aggregator.aggregate("temperature")
    scene.path("shed").write_bytes(b"")
    assert by_room(aggregator.aggregate("temperature"), "max") == {"hall": 24.0, "attic": 9.0}
