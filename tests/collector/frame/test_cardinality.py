"""The limits as a collector keeps them: what a ring holds of the series beyond, by each policy."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping

import pytest

from collector.frame.collector import MetricCollector
from collector.frame.rules import Rules
from collector.loop.selfmetrics import MOST_NAMED, SelfMetrics
from collector.metrics import SERIES_LIMITED, SERIES_PRUNED
from collector.settings import MetricConfig
from shm.errors import NoSpace
from shm.metric import Metric
from shm.ring.reader import RingReader
from tests.failing import raising
from tests.rings import held, newest

GAUGE = Metric("depth", "gauge", "D.", "", ("path",))
COUNTER = Metric("done_total", "counter", "D.", "", ("path",))
HISTOGRAM = Metric("latency", "histogram", "L.", "", ("path",), (10.0,))
TWO = Metric("hits", "gauge", "H.", "", ("host", "path"))


class Ring:
    """A collector with rules, and what its ring holds. Its clock stands still until it is moved."""

    def __init__(self, namespace: str, **tables: MetricConfig) -> None:
        self.namespace = namespace
        self.tables = tables
        self.seconds = 0.0
        self.open()

    def open(self, max_series: int = 100, max_series_per_metric: int = 200) -> None:
        self.collector = MetricCollector(
            "app", namespace=self.namespace, capacity=16, max_series=max_series,
            max_series_per_metric=max_series_per_metric, rules=Rules(self.tables),
        )  # fmt: skip
        self.collector.cardinality.clock = lambda: self.seconds
        self.collector.register(GAUGE, COUNTER, HISTOGRAM, TWO)
        self.collector.resume()

    def commit(self, samples: Mapping[str, float], metric: Metric = GAUGE) -> list[bool]:
        """One frame; which samples were taken."""
        taken = [self.collector.record_metric(metric.name, value, {"path": path}) for path, value in samples.items()]
        self.collector.commit()
        return taken

    def history(self, metric: Metric = GAUGE) -> dict[str, list[float]]:
        """What the ring holds of each series of the metric, oldest first."""
        with RingReader(self.namespace, "app") as reader:
            values = reader.frames().values
            columns = {s.label_values: s.column for s in reader.catalog.series if s.metric.name == metric.name}
            return {
                "/".join(labels): [value for value in values[:, column].tolist() if value == value]
                for labels, column in columns.items()
            }

    def close(self) -> None:
        self.collector.close()


@pytest.fixture
def ring(namespace: str) -> Iterator[Ring]:
    made = Ring(namespace, depth=MetricConfig(max_series=3, beyond="oldest"))
    yield made
    made.close()


def messages(caplog: pytest.LogCaptureFixture, metric: str) -> list[str]:
    return [one.message for one in caplog.records if one.__dict__.get("metric") == metric]


# ---- drop --------------------------------------------------------------------------------------------------------


def test_each_metric_has_its_own_limit_and_the_source_has_one_over_all(namespace: str) -> None:
    ring = Ring(namespace, depth=MetricConfig(max_series=2))
    ring.close()
    ring.open(max_series=5, max_series_per_metric=4)
    assert ring.commit({"a": 1, "b": 1, "c": 1}) == [True, True, False]
    assert ring.commit(dict.fromkeys("abcde", 1.0), COUNTER) == [True, True, True, False, False]
    with RingReader(namespace, "app") as reader:
        assert reader.catalog.limits == ring.collector.cardinality.limits == {"depth": 2, "done_total": 5}
    ring.close()


def test_a_label_has_no_more_than_its_values_and_known_ones_may_be_combined(namespace: str) -> None:
    ring = Ring(namespace, hits=MetricConfig(max_label_values=2))

    def record(host: str, path: str) -> bool:
        return ring.collector.record_metric("hits", 1, {"host": host, "path": path})

    assert [record("a", "1"), record("b", "2"), record("a", "2"), record("b", "1")] == [True] * 4
    assert [record("c", "1"), record("a", "3")] == [False, False]
    ring.collector.commit()
    assert sorted(ring.history(TWO)) == ["a/1", "a/2", "b/1", "b/2"]
    assert record("a", "1"), "a known series is never dropped"
    ring.close()


def test_a_value_that_was_absent_for_a_whole_ring_makes_room(namespace: str) -> None:
    ring = Ring(namespace, depth=MetricConfig(max_label_values=2))
    assert ring.commit({"a": 1, "b": 1, "c": 1}) == [True, True, False]
    for _ in range(20):
        ring.commit({"a": 1})
    assert ring.commit({"c": 1, "d": 1}) == [True, False]
    ring.close()


def test_who_comes_back_after_a_whole_ring_keeps_its_place_beside_newcomers(namespace: str) -> None:
    """Its column could be freed for them, were it not for the sample that it has in this very frame."""
    with MetricCollector("back", namespace=namespace, capacity=8, max_series_per_metric=5) as one:
        one.register_metric("m", "gauge", label_names=("l",), help="M.")
        one.register_metric("tick", "gauge", help="So that frames are not empty.")
        for count in range(5):
            assert one.record_metric("m", 1, {"l": str(count)})
        one.commit()
        for _ in range(4):
            for _ in range(10):
                one.record_metric("tick", 1)
                one.commit()
            for count in range(5):
                assert one.record_metric("m", 2, {"l": str(count)})
            assert not any(one.record_metric("m", 3, {"l": f"new {count}"}) for count in range(5))
            one.commit()
            assert [key[1] for key in newest(namespace, "back") if key[0] == "m"] == list("01234")


@pytest.mark.parametrize("apart", [None, 1])
def test_who_comes_back_in_the_frame_that_the_ring_grows_for_has_its_sample_in_it(
    namespace: str, apart: int | None
) -> None:
    with MetricCollector("grows", namespace=namespace, capacity=8) as one:
        one.register_metric("m", "gauge", label_names=("l",), help="M.")
        one.register_metric("h", "histogram", label_names=("l",), buckets=(1.0, 2.0), help="H.")
        one.record_metric("m", 1, {"l": "idle"})
        one.record_metric("h", 1, {"l": "idle"})
        for _ in range(12):
            one.record_metric("m", 2, {"l": "live"})
            one.commit()
        generation = one.writer.header.generation
        assert one.record_metric("m", 42, {"l": "idle"}, apart)
        assert one.record_metric("h", 1.5, {"l": "idle"})
        for count in range(20):
            one.record_metric("m", count, {"l": f"new {count}"})
        one.commit()
        assert one.writer.header.generation > generation
        assert held(namespace, "grows", "m", "idle") == [42]
        assert newest(namespace, "grows")["h", "idle"] == [1.5, 1, 2, 2, 2.5]


# ---- oldest ------------------------------------------------------------------------------------------------------


def test_the_series_whose_last_sample_is_oldest_gives_its_place_and_its_history_goes(ring: Ring) -> None:
    ring.commit({"a": 1, "b": 2, "c": 3})
    ring.commit({"a": 4})
    ring.commit({"c": 5})
    assert ring.commit({"d": 6}) == [True]
    assert ring.history() == {"a": [1, 4], "c": [3, 5], "d": [6]}
    assert ring.collector.cardinality.dropped == 0
    assert ring.collector.cardinality.pruned == {"depth": 1}


def test_a_newcomer_is_credited_with_nothing_of_the_one_before_it(ring: Ring) -> None:
    """Neither by the columns nor by the count of the frames, of which the ring is full and laps."""
    rng = random.Random(7)
    told: dict[str, list[float]] = {}
    for number in range(200):
        ring.seconds += 1000.0
        samples = {str(rng.randrange(number // 4, number // 4 + 6)): float(number) for _ in range(2)}
        ring.commit(samples)
        for path, value in samples.items():
            told.setdefault(path, []).append(value)
        for path, kept in ring.history().items():
            assert kept == told[path][len(told[path]) - len(kept) :], f"{path} at {number}"
        assert len(ring.history()) <= 3
    assert ring.collector.cardinality.pruned["depth"] > 20


def test_nobody_with_a_sample_in_the_frame_is_displaced(ring: Ring, caplog: pytest.LogCaptureFixture) -> None:
    ring.commit({"a": 1, "b": 2, "c": 3})
    generation = ring.collector.writer.header.generation
    for _ in range(3):
        ring.seconds += 1000.0
        # In whatever order they come: the newcomer waits for the commit.
        ring.commit({"d": 0, "a": 1, "b": 2, "c": 3})
    assert set(ring.history()) == {"a", "b", "c"}
    assert ring.collector.cardinality.dropped == 3
    assert ring.collector.writer.header.generation == generation, "nothing was rebuilt for it"
    assert messages(caplog, "depth") == ["series pruned"]


def test_a_new_ring_has_no_more_series_than_the_limit_though_all_have_samples(ring: Ring) -> None:
    for _ in range(3):
        ring.commit(dict.fromkeys("abcdefg", 1.0))
        assert list(ring.history()) == ["a", "b", "c"]
    assert ring.collector.cardinality.dropped == 3 * 4


def test_the_ring_is_rebuilt_once_for_all_newcomers_of_a_frame_and_not_again_for_a_minute(ring: Ring) -> None:
    ring.commit({"a": 1, "b": 2, "c": 3})
    generation = ring.collector.writer.header.generation
    ring.commit({"d": 4, "e": 5})
    assert set(ring.history()) == {"c", "d", "e"}
    assert ring.collector.writer.header.generation == generation + 1
    for _ in range(5):
        ring.seconds += 10
        ring.commit({"f": 6})
    assert set(ring.history()) == {"c", "d", "e"}
    assert ring.collector.cardinality.dropped == 5
    ring.seconds += 10
    ring.commit({"f": 6})
    assert set(ring.history()) == {"d", "e", "f"}
    assert ring.collector.writer.header.generation == generation + 2


def test_a_long_rebuild_is_followed_by_a_longer_rest(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    prune = ring.collector.writer.prune

    def slowly(*arguments: object) -> bool:
        ring.seconds += 3 if arguments else 0  # without any, only what nobody has is freed
        return prune(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ring.collector.writer, "prune", slowly)
    ring.commit({"a": 1, "b": 2, "c": 3})
    ring.commit({"d": 4})
    ring.seconds += 299
    ring.commit({"e": 5})
    assert "e" not in ring.history()
    ring.seconds += 1
    ring.commit({"e": 5})
    assert "e" in ring.history()


def test_no_more_newcomers_are_staged_than_there_are_places(ring: Ring) -> None:
    ring.commit({"a": 1, "b": 2, "c": 3})
    assert ring.commit({str(i): 1 for i in range(5)}) == [True] * 3 + [False] * 2
    assert set(ring.history()) == {"0", "1", "2"}
    assert ring.collector.cardinality.dropped == 2


def test_each_sample_of_a_newcomer_that_finds_no_place_is_counted(namespace: str) -> None:
    ring = Ring(namespace, latency=MetricConfig(max_series=1, beyond="oldest"))
    ring.commit({"a": 1}, HISTOGRAM)
    for path in "abbb":
        assert ring.collector.record_metric("latency", 1, {"path": path})
    ring.collector.commit()
    assert ring.collector.cardinality.dropped == 3
    assert ring.collector.cardinality.limited == {("latency", "oldest"): 3}
    ring.close()


def test_frames_of_their_own_count_as_samples_of_the_frame(ring: Ring) -> None:
    ring.commit({"a": 1, "b": 2, "c": 3})
    ring.collector.record_metric("depth", 4, {"path": "a"}, timestamp=50)
    ring.collector.record_metric("depth", 5, {"path": "d"}, timestamp=60)
    ring.collector.commit()
    assert set(ring.history()) == {"a", "c", "d"}


def test_a_histogram_that_was_displaced_begins_anew(namespace: str) -> None:
    ring = Ring(namespace, latency=MetricConfig(max_series=1, beyond="oldest"))
    for path in "aba":
        ring.seconds += 1000
        ring.commit({path: 5}, HISTOGRAM)
    assert newest(namespace, "app") == {("latency", "a"): [5, 1, 1, 5]}
    ring.seconds += 1000
    ring.commit({"a": 5}, HISTOGRAM)
    assert newest(namespace, "app") == {("latency", "a"): [5, 2, 2, 10]}
    ring.close()


def test_without_memory_for_a_rebuild_newcomers_are_dropped(ring: Ring, monkeypatch: pytest.MonkeyPatch) -> None:
    ring.commit({"a": 1, "b": 2, "c": 3})
    monkeypatch.setattr(ring.collector.writer, "prune", raising(NoSpace("app", "none left")))
    ring.commit({"d": 4})
    assert set(ring.history()) == {"a", "b", "c"}
    assert ring.collector.cardinality.dropped == 1
    ring.commit({"a": 5})
    assert ring.history()["a"] == [1, 5]


def test_a_displaced_series_stays_gone_over_a_restart(ring: Ring) -> None:
    for path in "abcd":
        ring.commit({path: 1})
    ring.close()
    ring.open()
    ring.commit({"a": 2})
    assert ring.history() == {"a": [2], "c": [1], "d": [1]}


# ---- what is said and counted ------------------------------------------------------------------------------------


def test_each_policy_is_said_once_a_metric_and_counted_by_metric_and_policy(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    ring = Ring(
        namespace,
        depth=MetricConfig(max_series=1, beyond="oldest"),
        hits=MetricConfig(max_label_values=1),
    )
    own = SelfMetrics(ring.collector, "app")
    for number in range(3):
        ring.seconds += 1000
        ring.collector.record_metric("depth", 1, {"path": str(number)})
        for path in "ab":
            ring.collector.record_metric("hits", 1, {"host": "h", "path": path})
        own.record(True, 0.1, 0)
        ring.collector.commit()
    assert messages(caplog, "depth") == ["series pruned"]
    [said] = [one for one in caplog.records if one.message == "series dropped"]
    assert said.__dict__["error"] == "the limit of 1 values of the label 'path' is reached"
    assert said.__dict__["remedy"] == "drop a label with many values, or raise the limit, or set beyond"
    assert set(ring.collector.cardinality.limits) == {"depth", "hits"}
    ring.close()
    ring.open()
    own = SelfMetrics(ring.collector, "app")
    own.record(True, 0.1, 0)
    ring.collector.commit()
    assert {path: values[-1] for path, values in ring.history(SERIES_LIMITED).items()} == {
        "app/depth/oldest": 2, "app/hits/drop": 3,
    }  # fmt: skip
    assert ring.history(SERIES_PRUNED)["app/depth"][-1] == 1, "of the third frame's commit nothing was recorded"
    ring.close()


def test_counters_name_a_bounded_number_of_metrics(namespace: str) -> None:
    ring = Ring(namespace, **{"*": MetricConfig(max_series=1)})
    own = SelfMetrics(ring.collector, "app")
    for number in range(MOST_NAMED + 5):
        ring.collector.register_metric(f"m{number:03}", "gauge", label_names=("path",))
        for path in "ab":
            ring.collector.record_metric(f"m{number:03}", 1, {"path": path})
    own.record(True, 0.1, 0)
    ring.collector.commit()
    held = ring.history(SERIES_LIMITED)
    assert len(held) == MOST_NAMED + 1
    assert held["app/other/drop"] == [5]
    ring.close()


def test_the_daemons_own_metrics_have_no_limits(namespace: str) -> None:
    ring = Ring(namespace, **{"*": MetricConfig(max_series=1, max_label_values=1, beyond="oldest")})
    ring.collector.register(SERIES_LIMITED)
    for value in (7.0, 3.0):
        for number in range(5):
            labels = {"source": "app", "metric": str(number), "beyond": "oldest"}
            assert ring.collector.record_metric(SERIES_LIMITED.name, value, labels)
        ring.collector.commit()
    assert ring.history(SERIES_LIMITED) == {f"app/{number}/oldest": [7, 3] for number in range(5)}
    assert ring.commit({"a": 1}) == [True], "they take no place of others"
    ring.close()
