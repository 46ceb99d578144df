from __future__ import annotations

import dataclasses

import pytest

from collector.frame.collector import MetricCollector
from collector.frame.rules import Rules
from collector.settings import MetricConfig
from collector.source import Collection, MetricSource, Sample
from shm.errors import MetricError, NoSpace
from shm.metric import Metric
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter
from tests.failing import raising
from tests.rings import held, newest

OLD = Metric("latency", "histogram", "L.", buckets=(10.0,))
NEW = Metric("latency", "histogram", "L.", buckets=(10.0, 100.0))
DEPTH = Metric("depth", "gauge", "D.")


@pytest.fixture
def full(namespace: str, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A ring that knows the old buckets, and no memory to rebuild it until the patch is undone."""
    with MetricCollector("app", namespace=namespace, capacity=64) as first:
        first.register(OLD, DEPTH)
        first.record_metric("latency", 5)
        first.record_metric("depth", 1)
        first.commit()
    monkeypatch.setattr(RingWriter, "redefine", raising(NoSpace("app", "none left")))
    return monkeypatch


def test_a_changed_metric_that_finds_no_memory_waits_and_the_others_go_on(
    namespace: str, full: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with MetricCollector("app", namespace=namespace, capacity=64) as second:
        second.register(NEW, DEPTH)
        second.resume()
        for value in (2, 3):
            second.record_metric("latency", 50)
            second.record_metric("latency", 50, timestamp=100.0)
            second.record_metric("depth", value)
            second.commit()
        assert second.cardinality.dropped == 4
        [said] = [record for record in caplog.records if record.message == "metrics not redefined"]
        assert said.__dict__["metrics"] == "latency"
        assert said.__dict__["error"] == "ring 'app': none left"
        [dropped] = [record for record in caplog.records if record.message == "series dropped"]
        assert dropped.__dict__["metric"] == "latency"
        assert "remedy" not in dropped.__dict__, "a higher limit would help nobody"
        assert held(namespace, "app", "depth") == [1, 2, 3]
        full.undo()
        second.record_metric("latency", 50)
        second.commit()
        assert second.writer.metrics["latency"] == NEW
        # Buckets, count and sum of all that was observed, also while it waited.
        assert newest(namespace, "app")["latency",] == [50, 0, 5, 5, 250]


# ---- buckets of the configuration --------------------------------------------------------------------------------


def rules(*buckets: float, name: str = "latency") -> Rules:
    return Rules({name: MetricConfig(buckets=buckets)})


def observe(namespace: str, value: float, by: Rules, declared: Metric = OLD) -> None:
    """A collector that starts, records once, and ends."""
    with MetricCollector("app", namespace=namespace, capacity=64, rules=by) as collector:
        collector.register(declared, DEPTH)
        collector.resume()
        collector.record_metric("latency", value)
        collector.record_metric("depth", value)
        collector.commit()


def test_the_buckets_of_the_configuration_take_the_place_of_the_sources(namespace: str) -> None:
    for value in (3.0, 30.0):
        observe(namespace, value, rules(5, 50, 500))
    assert newest(namespace, "app")["latency",] == [30, 1, 2, 2, 2, 33]
    assert held(namespace, "app", "latency") == [3, 30]


def test_a_change_of_buckets_begins_that_metric_anew_and_no_other(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    for buckets in ((), (5, 50), (5, 500), (5, 500), ()):
        observe(namespace, 7.0, rules(*buckets))
        if buckets == (5, 500):
            assert newest(namespace, "app")["latency",][1:3] == [0, len(held(namespace, "app", "latency"))]
    assert newest(namespace, "app")["latency",] == [7, 1, 1, 7]
    assert held(namespace, "app", "depth") == [7] * 5
    assert [one.message for one in caplog.records].count("metrics begin anew") == 3


def test_the_histogram_of_somebody_else_keeps_its_buckets_and_its_history_and_that_is_said(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    for counted in ((1.0, 2.0, 9.0), (3.0, 4.0, 11.0)):
        with MetricCollector("app", namespace=namespace, capacity=64, rules=rules(5, 50)) as collector:
            collector.register(OLD, DEPTH)
            collector.resume()
            generation = collector.writer.header.generation
            for _ in range(2):
                assert collector.record_counted("latency", counted)
                collector.record_metric("depth", 1)
                collector.commit()
            assert collector.writer.header.generation == generation, "nothing was rebuilt for it"
            assert newest(namespace, "app")["latency",] == [None, *counted]
    said = [one for one in caplog.records if one.message == "buckets not applied"]
    assert len(said) == 2, "once a start"
    assert said[0].__dict__["error"] == ("histogram 'latency' is counted by another program, whose buckets are kept")


def test_of_metrics_that_come_and_go_the_counted_keep_their_buckets_and_the_observed_get_others(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, ours = (
        Metric("theirs", "histogram", "T.", buckets=(1.0,)),
        Metric("ours", "histogram", "O.", buckets=(1.0,)),
    )

    class Source(MetricSource):
        name = "app"
        metrics = ()

        def collect(self) -> Collection:
            samples = [Sample("theirs", None, counted=(1.0, 2.0, 3.0)), Sample("ours", 7.0)]
            return Collection(samples, metrics=[theirs, ours])

    by = Rules({"*": MetricConfig(buckets=(5, 50))})
    with MetricCollector("app", namespace=namespace, capacity=64, rules=by) as collector:
        for _ in range(3):
            [result] = collector.collect_from_sources([Source()], 5.0)
            assert not result.errors
            collector.commit()
    assert "metrics begin anew" not in caplog.messages
    assert newest(namespace, "app")["theirs",] == [None, 1, 2, 3]
    assert newest(namespace, "app")["ours",] == [7, 0, 3, 3, 21]
    assert [one.__dict__["metric"] for one in caplog.records if one.message == "buckets not applied"] == ["theirs"]


@pytest.mark.parametrize("buckets", [(), (5, 50)])
def test_a_metric_is_declared_once(namespace: str, buckets: tuple[float, ...]) -> None:
    with MetricCollector("app", namespace=namespace, capacity=64, rules=rules(*buckets)) as collector:
        collector.register(OLD)
        collector.register(OLD)
        with pytest.raises(MetricError, match="'latency' is registered as"):
            collector.register(dataclasses.replace(OLD, help="Other words."))


def test_buckets_of_what_is_no_histogram_are_refused_or_said_once_where_it_comes_and_goes(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    with MetricCollector("app", namespace=namespace, capacity=64, rules=rules(5, name="depth")) as collector:
        with pytest.raises(MetricError, match=r"\[metric.depth\] buckets are for histograms, and depth is a gauge"):
            collector.register(DEPTH)
        for value in (1, 2):
            assert collector.redeclare([DEPTH]) == []
            assert collector.record_metric("depth", value)
            collector.commit()
        assert held(namespace, "app", "depth") == [1, 2]
    assert [one.message for one in caplog.records] == ["buckets not applied"]


def test_new_words_of_a_histogram_with_other_buckets_are_taken_up_at_the_next_start(namespace: str) -> None:
    for words in ("Old words.", "New words."):
        observe(namespace, 7.0, rules(5, 50), Metric("latency", "histogram", words, buckets=(10.0,)))
    with RingReader(namespace, "app") as reader:
        assert {one.name: one.help for one in reader.catalog.metrics}["latency"] == "New words."
    assert newest(namespace, "app")["latency",] == [7, 0, 2, 2, 14]
