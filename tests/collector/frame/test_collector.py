from __future__ import annotations

import asyncio
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from collector.frame.collector import MetricCollector
from collector.frame.histogram import Observations
from collector.metrics import UP
from collector.source import Collection, CollectResult, MetricSource, Sample
from shm.errors import MetricError, NoSpace
from shm.metric import Metric
from shm.ring.layout import FLAG_TICK
from shm.ring.reader import RingReader
from shm.ring.series import read_time_series
from tests.failing import raising
from tests.rings import held, newest

SECOND = 1_000_000_000


@pytest.fixture
def collector(namespace: str) -> Iterator[MetricCollector]:
    with MetricCollector("app", namespace=namespace, capacity=64) as made:
        yield made


def test_what_is_staged_becomes_one_frame_with_one_timestamp(collector: MetricCollector) -> None:
    collector.register_metric("depth", "gauge", unit="jobs", help="Jobs.", label_names=("queue",))
    collector.register_metric("done", "counter", help="Jobs done.")
    assert collector.record_metric("depth", 3, {"queue": "mail"})
    assert collector.record_metric("done", 7)
    assert collector.commit(timestamp_ns=100 * SECOND, monotonic_ns=5) == 1
    with RingReader(collector.namespace, "app") as reader:
        frame = reader.latest()
        assert frame is not None
        assert (frame.timestamp_ns, frame.monotonic_ns, frame.flags) == (100 * SECOND, 5, FLAG_TICK)
        assert [frame.value(series.column) for series in reader.catalog.series] == [3, 7]


def test_a_series_not_recorded_is_absent_from_the_frame(collector: MetricCollector) -> None:
    collector.register_metric("depth", "gauge", label_names=("queue",))
    collector.record_metric("depth", 1, {"queue": "a"})
    collector.record_metric("depth", 2, {"queue": "b"})
    collector.commit()
    collector.record_metric("depth", 3, {"queue": "b"})
    collector.commit()
    assert held(collector.namespace, "app", "depth", "a") == [1]
    assert held(collector.namespace, "app", "depth", "b") == [2, 3]


def test_a_second_sample_of_a_series_begins_a_new_frame(collector: MetricCollector) -> None:
    collector.register_metric("depth", "gauge")
    collector.register_metric("done", "counter")
    collector.record_metric("done", 1)
    for value in (1, 5, 2):
        collector.record_metric("depth", value)
    assert held(collector.namespace, "app", "depth") == [1, 5]
    assert held(collector.namespace, "app", "done") == [1]
    assert collector.commit() == 3
    for timestamp in (50, 60, 50):
        collector.record_metric("depth", timestamp, timestamp=timestamp)
    collector.commit()
    assert held(collector.namespace, "app", "depth") == [1, 5, 2, 50, 60, 50]


# ---- reading back ----------------------------------------------------------------------------------------------


def test_what_was_recorded_is_read_back_with_what_is_still_staged(collector: MetricCollector) -> None:
    collector.register_metric("depth", "gauge", "jobs", "Jobs waiting.", ("queue",))
    before = time.time()
    for value in (3, 4, 5):
        collector.record_metric("depth", value, {"queue": "mail"})
    [mail] = collector.get_time_series("depth")
    assert (mail.labels, mail.values.tolist()) == ({"queue": "mail"}, [3.0, 4.0, 5.0])
    assert before <= mail.timestamps[0] <= mail.timestamps[1] <= mail.timestamps[2] <= time.time()
    assert collector.get_time_series("depth", end=before - 1)[0].values.tolist() == []
    assert collector.get_time_series("depth", labels={"queue": "other"}) == []


def test_a_metric_without_samples_reads_back_as_nothing_and_an_unknown_one_is_an_error(
    collector: MetricCollector,
) -> None:
    collector.register_metric("depth", "gauge")
    assert collector.get_time_series("depth") == []
    with pytest.raises(MetricError, match="ring 'app' has no metric 'width'"):
        collector.get_time_series("width")


def test_the_end_of_with_commits_and_a_restart_reads_it_back(namespace: str) -> None:
    with MetricCollector("app", 64, 1, namespace=namespace) as one:
        one.register_metric("depth", "gauge")
        one.record_metric("depth", 1)
    with MetricCollector("app", 64, 1, namespace=namespace) as again:
        again.register_metric("depth", "gauge")
        again.record_metric("depth", 2)
        [series] = again.get_time_series("depth")
        assert series.values.tolist() == [1.0, 2.0]
        [elsewhere] = read_time_series("app", "depth", namespace=namespace)
        assert elsewhere.values.tolist() == [1.0, 2.0]


def test_a_timestamp_makes_a_frame_of_its_own_also_an_older_one(collector: MetricCollector) -> None:
    collector.register_metric("depth", "gauge")
    collector.record_metric("depth", 1, timestamp=50)
    collector.record_metric("depth", 2, timestamp=40.5)
    collector.record_metric("depth", 3)
    collector.commit(timestamp_ns=60 * SECOND)
    with RingReader(collector.namespace, "app") as reader:
        frames = reader.frames()
        assert frames.timestamp_ns.tolist() == [40_500_000_000, 50 * SECOND, 60 * SECOND]
        assert frames.flags.tolist() == [0, 0, FLAG_TICK]
        assert frames.values[:, 0].tolist() == [2, 1, 3]
        window = reader.frames(45 * SECOND, 55 * SECOND)
        assert window.values[:, 0].tolist() == [1]


def test_a_histogram_counts_each_observation_of_a_tick_and_keeps_the_last_one_raw(collector: MetricCollector) -> None:
    collector.register_metric("latency", "histogram", buckets=(10, 100))
    for value in (5, 500, 50):
        collector.record_metric("latency", value)
    assert collector.commit() == 1, "a busy tick must not lap the history of the others"
    collector.record_metric("latency", 7)
    assert collector.commit() == 2
    assert held(collector.namespace, "app", "latency") == [50, 7]
    assert newest(collector.namespace, "app")["latency",] == [7, 2, 3, 4, 562]


def test_observations_with_timestamps_are_all_kept_raw(collector: MetricCollector) -> None:
    collector.register_metric("latency", "histogram", buckets=(10,))
    for second, value in enumerate((5, 500, 50)):
        collector.record_metric("latency", value, timestamp=100 + second)
    collector.commit()
    assert held(collector.namespace, "app", "latency") == [5, 500, 50]
    assert newest(collector.namespace, "app")["latency",] == [None, 1, 3, 555]


def test_observations_go_into_the_buckets_and_the_value_is_kept_raw(collector: MetricCollector) -> None:
    collector.register_metric("latency", "histogram", buckets=(10, 100))

    def columns() -> list[float | None]:
        collector.commit()
        return newest(collector.namespace, "app")["latency",]

    collector.record_metric("latency", 15, observations=Observations(((10.0, 3), (50.0, 1)), 60.0))
    assert columns() == [15, 3, 4, 4, 60]
    collector.record_metric("latency", 5)
    collector.record_metric("latency", 200, observations=Observations(((math.inf, 2),), 400.0))
    assert columns() == [200, 4, 5, 7, 465]
    collector.record_metric("latency", None, observations=Observations(((10.0, 1),), 3.0))
    assert columns() == [None, 5, 6, 8, 468]


@pytest.mark.parametrize(
    ("observations", "reason"),
    [
        (Observations(((1.0, -1),), 0.0), "-1 at the bound 1.0"),
        (Observations(((1.0, math.nan),), 0.0), "nan at the bound 1.0"),
        (Observations(((math.nan, 1),), 0.0), "1 at the bound nan"),
        (Observations(((1.0, 1),), math.nan), "the sum nan"),
    ],
)
def test_observations_that_would_spoil_a_histogram_are_refused(
    collector: MetricCollector, observations: Observations, reason: str
) -> None:
    collector.register_metric("latency", "histogram", buckets=(10,))
    with pytest.raises(MetricError, match=reason):
        collector.record_metric("latency", 1, observations=observations)
    collector.register_metric("depth", "gauge")
    with pytest.raises(MetricError, match="observations, which are for histograms"):
        collector.record_metric("depth", 1, observations=Observations(((1.0, 1),), 1.0))


def test_a_histogram_without_an_observation_keeps_its_buckets_in_sight(collector: MetricCollector) -> None:
    collector.register_metric("latency", "histogram", buckets=(10,))
    collector.record_metric("latency", 5)
    collector.commit()
    collector.record_metric("latency", None)
    collector.commit()
    assert newest(collector.namespace, "app")["latency",] == [None, 1, 1, 5]
    collector.commit()
    assert newest(collector.namespace, "app")["latency",] == [None] * 4


def test_buckets_and_counters_go_on_after_a_restart(namespace: str) -> None:
    latency = Metric("latency", "histogram", "L.", buckets=(10.0,))
    done = Metric("done", "counter", "D.", label_names=("kind",))
    with MetricCollector("app", namespace=namespace, capacity=64) as first:
        first.register(latency, done)
        first.record_metric("latency", 5)
        first.record_metric("done", 3, {"kind": "a"})
        first.commit()
        first.commit()  # a tick in which both are absent, as when the source failed
    with MetricCollector("app", namespace=namespace, capacity=64) as second:
        second.register(latency, done)
        assert second.resume(done) == {("done", ("a",)): 3}
        second.record_metric("latency", 50)
        second.commit()
        assert newest(namespace, "app")["latency",] == [50, 1, 2, 55]


@pytest.mark.parametrize(
    ("name", "value", "labels", "said"),
    [
        ("unknown", 1, {}, "'unknown' is not registered"),
        ("depth", 1, {}, r"has the labels \(queue\), but the sample has \(\)"),
        ("depth", "1", {"queue": "a"}, "got '1', of type str; give a number"),
        ("depth", True, {"queue": "a"}, "got True, of type bool"),
        ("depth", None, {"queue": "a"}, "got None; leave out"),
        ("depth", 10**400, {"queue": "a"}, "beyond float64"),
        ("done", -1, {}, "a counter is never below 0"),
        ("latency", float("nan"), {}, "NaN, which is in no bucket"),
        ("latency", float("inf"), {}, "inf, which would make its sum infinite for ever"),
    ],
)
def test_a_bad_sample_is_refused_by_name_and_value(
    collector: MetricCollector, name: str, value: float, labels: dict[str, str], said: str
) -> None:
    collector.register_metric("depth", "gauge", label_names=("queue",))
    collector.register_metric("done", "counter")
    collector.register_metric("latency", "histogram", buckets=(1,))
    with pytest.raises(MetricError, match=said):
        collector.record_metric(name, value, labels)
    collector.commit()
    assert newest(collector.namespace, "app") == {}


@pytest.mark.parametrize("timestamp", [1.7e12, 1_700_000_000_000_000_000, -1, float("nan"), float("inf"), "now"])
@pytest.mark.parametrize("name", ["depth", "latency"])
def test_a_timestamp_that_is_no_unix_seconds_is_refused_and_leaves_nothing_behind(
    collector: MetricCollector, name: str, timestamp: float
) -> None:
    collector.register_metric("depth", "gauge")
    collector.register_metric("latency", "histogram", buckets=(1,))
    collector.record_metric(name, 1)
    with pytest.raises(MetricError, match="give Unix seconds, not milliseconds or nanoseconds"):
        collector.record_metric(name, 500, timestamp=timestamp)
    collector.commit()
    assert held(collector.namespace, "app", name) == [1]
    assert newest(collector.namespace, "app")[name,] in ([1], [1, 1, 1, 1])


def test_registered_metrics_are_in_the_catalog_before_their_first_sample(collector: MetricCollector) -> None:
    collector.register_metric("depth", "gauge")
    collector.commit()
    with RingReader(collector.namespace, "app") as reader:
        assert [metric.name for metric in reader.catalog.metrics] == ["depth"]
        assert reader.catalog.series == []


def test_a_ring_that_cannot_grow_drops_the_new_series_and_keeps_the_known(
    collector: MetricCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector.register_metric("depth", "gauge", label_names=("x",))
    collector.record_metric("depth", 1, {"x": "0"})
    collector.commit()
    monkeypatch.setattr(collector.writer, "reserve", raising(NoSpace("app", "none left")))
    for i in range(3):
        collector.record_metric("depth", 2, {"x": str(i)})
    collector.commit()
    assert collector.cardinality.dropped == 2
    assert held(collector.namespace, "app", "depth", "0") == [1, 2]


def test_threads_may_record_at_once_and_nothing_is_lost(collector: MetricCollector) -> None:
    collector.register_metric("latency", "histogram", buckets=(10,))

    def observe() -> None:
        for _ in range(500):
            collector.record_metric("latency", 1)

    threads = [threading.Thread(target=observe) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    collector.commit()
    assert newest(collector.namespace, "app")["latency",] == [1, 2000, 2000, 2000]


# ---- sources -------------------------------------------------------------------------------------------------


class Source(MetricSource):
    metrics = (Metric("depth", "gauge", "D.", label_names=("queue",)),)

    def __init__(self, name: str, result: object) -> None:
        self.name = name
        self._result = result

    def collect(self) -> CollectResult:
        return self._result() if callable(self._result) else self._result  # type: ignore[return-value]


def sample(queue: str, value: float = 1.0) -> Sample:
    return Sample("depth", value, {"queue": queue})


def test_sources_are_collected_at_once_and_each_pays_only_for_itself(collector: MetricCollector) -> None:
    collector.register(*Source.metrics)
    both = threading.Barrier(2)
    go_on = threading.Event()

    def meet(queue: str) -> list[Sample]:
        both.wait(10)  # only passes when two sources are inside collect() at the same time
        return [sample(queue)]

    sources = [
        Source("a", lambda: meet("a")),
        Source("b", lambda: meet("b")),
        Source("hangs", lambda: go_on.wait(30)),
        Source("bad samples", [sample("good"), Sample("unknown", 1), "no sample", Sample("depth", 1, {})]),
        Source("part", Collection([sample("part")], ["half of it failed"])),
    ]
    results = {one.source.name: one for one in collector.collect_from_sources(sources, 1.0)}
    go_on.set()
    collector.commit()
    for queue in ("a", "b", "good", "part"):
        assert held(collector.namespace, "app", "depth", queue) == [1]
    assert [name for name, result in results.items() if not result.up] == ["hangs"]
    assert "hangs did not answer within" in results["hangs"].errors[0]
    assert len(results["bad samples"].errors) == 3
    assert list(results["part"].errors) == ["half of it failed"]


class Unreadable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no str")


def broken_generator() -> Iterator[Sample]:
    yield sample("first")
    raise OSError("in mid-generator")


@pytest.mark.parametrize(
    ("result", "up", "said"),
    [
        (raising(ValueError("broken")), False, "ValueError: broken"),
        (raising(SystemExit(3)), False, "raised SystemExit"),
        (raising(asyncio.CancelledError()), False, "raised CancelledError"),
        (lambda: 17, False, "source 'bad' returned 17"),
        (raising(Unspeakable()), False, "Unspeakable"),
        (lambda: Collection(None), False, "return a list of Sample"),  # type: ignore[arg-type]
        (lambda: Collection(broken_generator()), False, "in mid-generator"),  # type: ignore[arg-type]
        (lambda: Collection([], None), False, "return a list of Sample"),  # type: ignore[arg-type]
        (lambda: Collection([], "no answer"), True, "no answer"),
        (lambda: Collection([], [ValueError("x")]), True, "ValueError('x')"),  # type: ignore[list-item]
        (lambda: Collection([], ["sad"], up=None), False, "sad"),  # type: ignore[arg-type]
        (lambda: Collection([], metrics=[5]), False, "returned metrics (5,); return Metrics"),  # type: ignore[list-item]
        (lambda: Collection([], metrics=None), False, "return a list of Sample"),  # type: ignore[arg-type]
        (lambda: map(sample, map(str, itertools.count())), False, "returned more than 200000 samples"),
        (lambda: Collection([], itertools.repeat("no")), False, "returned more than 200000 errors"),  # type: ignore[arg-type]
        (lambda: [Unreadable()], True, "<Unreadable without a repr>"),
        (Unreadable, False, "<Unreadable without a repr>"),
        (lambda: [Sample("depth", Unreadable(), {"queue": "a"})], True, "give a number"),  # type: ignore[arg-type]
        (lambda: [Sample(["depth"], 1)], True, "not a Sample"),  # type: ignore[arg-type]
    ],
)
def test_whatever_a_source_does_costs_that_source_alone(
    collector: MetricCollector, result: Callable[[], object], up: bool, said: str
) -> None:
    collector.register(*Source.metrics)
    good = Source("good", lambda: [sample("good")])
    first, second = collector.collect_from_sources([Source("bad", result), good], 60)
    collector.commit()
    assert held(collector.namespace, "app", "depth", "good") == [1]
    assert second.up
    assert first.up is up
    [error] = first.errors
    assert said in error


def test_of_a_series_that_is_given_twice_for_a_frame_the_first_sample_is_kept_and_the_second_is_an_error(
    collector: MetricCollector,
) -> None:
    collector.register(*Source.metrics)
    collector.register_metric("size", "summary")
    size, stamped = Sample("size", None, counted=(1, 2.0)), Sample("depth", 1, {"queue": "s"}, 50)
    twice = [sample('a"', 1), sample("b", 3), sample('a"', 2), size, size, stamped, stamped]
    one, other = collector.collect_from_sources([Source("twice", twice), Source("other", [sample("b", 4)])])
    assert [error.split(",")[0] for error in one.errors] == [
        r'series depth{queue="a\""} was given twice for one frame',
        "series size was given twice for one frame",
        'series depth{queue="s"} was given twice for one frame',
    ]
    [error] = other.errors
    assert error.startswith('series depth{queue="b"} was given twice')
    assert error.endswith("remove the second, or give the two a label that differs")
    assert collector.commit() == 2  # one of them with a timestamp
    for queue, values in (('a"', [1]), ("b", [3]), ("s", [1])):
        assert held(collector.namespace, "app", "depth", queue) == values


def test_a_source_may_give_many_observations_of_a_histogram_but_only_one_state(collector: MetricCollector) -> None:
    latency = Metric("latency", "histogram", "L.", buckets=(10.0,))
    collector.register(latency)
    [result] = collector.collect_from_sources([Source("many", [Sample("latency", 5), Sample("latency", 50)])])
    collector.commit()
    assert result.errors == []
    assert newest(collector.namespace, "app")["latency",] == [50, 1, 2, 55]
    counted = [Sample("latency", None, counted=(1, 1, 2.0)), Sample("latency", 5)]
    [result] = collector.collect_from_sources([Source("mixed", counted)])
    collector.commit()
    assert len(result.errors) == 1
    assert newest(collector.namespace, "app")["latency",] == [None, 1, 1, 2]


def test_what_a_hung_source_gives_too_late_is_dropped(collector: MetricCollector) -> None:
    collector.register(*Source.metrics)
    go_on, done = threading.Event(), threading.Event()

    def late() -> list[Sample]:
        go_on.wait(30)
        done.set()
        return [sample("late")]

    source = Source("slow", late)
    collector.collect_from_sources([source], 0.05)
    go_on.set()
    assert done.wait(5)
    collector.commit()
    assert newest(collector.namespace, "app") == {}


def test_a_histogram_that_growth_freed_is_forgotten_and_begins_anew(namespace: str) -> None:
    """Series that come and go must not cost memory for ever, limits reached or not."""
    with MetricCollector("app", namespace=namespace, capacity=8) as collector:
        collector.register_metric("latency", "histogram", label_names=("path",), buckets=(10,))
        for number in range(100):
            collector.record_metric("latency", 5, {"path": f"/{number}"})
            collector.commit()
        assert len(collector._histograms) < 40
        collector.record_metric("latency", 5, {"path": "/0"})
        collector.commit()
    assert newest(namespace, "app")["latency", "/0"] == [5, 1, 1, 5]


# ---- what somebody else counted, and metrics that come and go ---------------------------------------------------


def test_a_histogram_that_somebody_else_counted_is_recorded_as_it_is_if_it_is_one(collector: MetricCollector) -> None:
    collector.register_metric("h", "histogram", buckets=(1, 5), label_names=("a",))
    collector.register_metric("g", "gauge")
    collector.record_counted("h", (1, None, 3, 9.5), {"a": "x"})
    collector.commit()
    assert newest(collector.namespace, "app")["h", "x"] == [None, 1.0, None, 3.0, 9.5]
    for name, counted, said in (
        ("h", (1, 2, 3), "got 3 counts; give one for each of its 2 buckets, the total count and the sum"),
        ("h", (-1, 2, 3, 4), "give cumulative counts: 0 or more"),
        ("h", (math.nan, 2, 3, 4), "give cumulative counts: 0 or more"),
        ("h", (3, None, 2, 4), "none below the one before"),
        ("h", (1, 2, math.nan, 4), "none below the one before"),
        ("g", (1,), "is of type gauge, but only histograms and summaries have counts"),
        ("none", (1,), "is not registered"),
    ):
        with pytest.raises(MetricError, match=said):
            collector.record_counted(name, counted, {"a": "x"})


def test_a_metric_that_is_declared_otherwise_begins_anew_and_other_words_wait(collector: MetricCollector) -> None:
    collector.register_metric("own", "gauge")
    assert collector.redeclare([Metric("x", "gauge", "One."), Metric("y", "gauge", "One.")]) == []
    collector.record_metric("x", 1)
    collector.record_metric("y", 1)
    collector.commit()
    generation = collector.writer.header.generation
    assert collector.redeclare([Metric("x", "gauge", "Two."), Metric("y", "gauge", "Two.")]) == []
    collector.commit()
    assert collector.writer.header.generation == generation, "words alone do not rebuild the ring"
    assert collector.redeclare([Metric("x", "counter", "Two.", "", ("a",))]) == []
    collector.record_metric("x", 2, {"a": "b"})
    collector.commit()
    assert set(collector.writer.columns) == {("x", ("b",)), ("y", ())}
    assert collector.writer.metrics["x"].help == "Two."


def test_metrics_of_all_times_are_bounded_and_the_daemons_own_are_not_taken(namespace: str) -> None:
    with MetricCollector("app", namespace=namespace, capacity=64, max_series=3) as collector:
        collector.register(UP)
        refused = collector.redeclare([Metric(name, "gauge", "") for name in ("a", "b", "c")])
        assert [str(error).split(";")[0] for error in refused] == [
            "metric 'c' would be one more than the 3 that ring 'app' may have, past ones included"
        ]
        [error] = collector.redeclare([Metric(UP.name, "counter", "")])
        assert str(error) == "metric 'collector_up' is the daemon's own; rename the other"
        assert collector.redeclare([Metric("a", "counter", "")]) == []
