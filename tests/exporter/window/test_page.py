"""/metrics/aggregated against plain Python over exactly the frames of the window."""

from __future__ import annotations

import math

import pytest

from exporter.http.negotiation import Format
from exporter.http.parameters import AggregatedQuery, parse_aggregated_query
from exporter.rings import RingSet
from exporter.window.page import AggregatedPage
from exporter.window.ring_window import Windows
from shm.errors import RingError
from shm.metric import Metric, MetricType
from tests.exporter.scene import INTERVAL, SECOND, Sampled, Scene, samples_of
from tests.exporter.window.test_statistics import plain
from tests.rings import open_writer

WINDOW = 300
ROOM = {"room": "a"}


def query(*params: tuple[str, str]) -> AggregatedQuery:
    return parse_aggregated_query(params, WINDOW * SECOND)


def page(rings: RingSet, *params: tuple[str, str], form: Format = Format.TEXT) -> str:
    """The page without what it covers."""
    found, asked = rings.refresh(), query(*params)
    layout = AggregatedPage(found, asked)
    now_ns = rings.wall()
    windows = Windows(rings, found, layout.indexes, now_ns - asked.window_ns, now_ns)
    return b"".join(layout.render(windows, form)).decode().partition("# HELP exporter_window_seconds")[0]


def samples(rings: RingSet, *params: tuple[str, str]) -> Sampled:
    return samples_of(page(rings, *params))


def of(found: Sampled, name: str, **labels: str) -> dict[str, float]:
    """The statistics of one series."""
    wanted = set(labels.items())
    return {
        dict(pairs)["stat"]: value for (metric, pairs), value in found.items() if metric == name and wanted < set(pairs)
    }


def test_every_series_is_computed_over_exactly_the_frames_of_the_window(scene: Scene) -> None:
    recorded: list[tuple[int, str, float]] = []
    for i in range(50):
        for room in "ab":
            if (i + ord(room)) % 3:
                value = float(i * i % 37)
                scene.collector("s").record_metric("temperature", value, {"room": room})
                recorded.append((scene.wall_ns, room, value))
        scene.commit("s")
        scene.advance(INTERVAL)
    scene.advance(-INTERVAL)  # now is the last frame's own time, and a frame is exactly a window old
    for window in (300, 299, 301, 60, 15, 10_000):
        found = samples(scene.rings(), ("window", f"{window}s"))
        for room in "ab":
            values = [
                value for at, name, value in recorded
                if name == room and scene.wall_ns - window * SECOND < at <= scene.wall_ns
            ]  # fmt: skip
            assert of(found, "temperature", room=room) == (plain(values) if values else {}), (window, room)


def test_the_page_of_the_three_types(scene: Scene) -> None:
    for i in range(3):
        scene.commit(
            "s", ("temperature", 10.0 * i, ROOM), ("packets", 100.0 + 30 * i), ("latency", 4.0 * i, {"path": "/"})
        )
        scene.advance(INTERVAL)
    text = page(scene.rings(), ("stat", "avg,max,p50,rate,increase"))
    assert text == (
        "# HELP latency Over a window: Response time, in milliseconds.\n"
        "# TYPE latency gauge\n"
        'latency{path="/",stat="avg"} 4.0\n'
        'latency{path="/",stat="max"} 8.0\n'
        'latency{path="/",stat="p50"} 4.0\n'
        "# HELP packets Over a window: Packets seen.\n"
        "# TYPE packets gauge\n"
        'packets{stat="rate"} 2.0\n'
        'packets{stat="increase"} 60.0\n'
        '# HELP temperature Over a window: Air, in °C: "dry"\\nback\\\\slash.\n'
        "# TYPE temperature gauge\n"
        'temperature{room="a",stat="avg"} 10.0\n'
        'temperature{room="a",stat="max"} 20.0\n'
        'temperature{room="a",stat="p50"} 10.0\n'
    )
    openmetrics = page(scene.rings(), form=Format.OPENMETRICS) + "# EOF\n"
    assert samples_of(openmetrics, Format.OPENMETRICS) == samples(scene.rings())


def test_a_stale_ring_s_history_stays_in_the_window(scene: Scene) -> None:
    scene.commit("s", ("temperature", 5.0, ROOM))
    scene.advance(WINDOW - 1)
    rings = scene.rings()
    assert rings.is_stale(rings.refresh()[0])
    assert of(samples(rings), "temperature", room="a")["max"] == 5.0
    scene.advance(1)
    assert page(rings) == ""


def test_by_a_label_samples_are_pooled_over_all_rings(scene: Scene) -> None:
    for i in range(20):
        scene.commit("one", ("temperature", float(i), ROOM), ("latency", 1.0, {"path": "/"}))
        scene.advance(INTERVAL / 2)
        if i % 2:
            scene.collector("two", Metric("temperature", "gauge", "", "", ("room", "floor")))
            scene.commit(
                "two",
                ("temperature", 100.0 + i, {"room": "a", "floor": "1"}),
                ("temperature", 200.0, {"room": "b", "floor": "1"}),
            )
        scene.advance(INTERVAL / 2)
    found = samples(scene.rings(), ("by", "room"), ("window", "1h"))
    pooled = [float(i) for i in range(20)] + [100.0 + i for i in range(1, 20, 2)]
    assert of(found, "temperature", room="a") == plain(pooled)
    assert of(found, "temperature", room="b") == plain([200.0] * 10)
    assert {name for name, _ in found} == {"temperature"}  # the others have no such label
    assert all({label for label, _ in labels} == {"room", "stat"} for _, labels in found)


def test_by_a_label_a_ring_of_short_intervals_does_not_outweigh_one_of_long_ones(scene: Scene) -> None:
    start = scene.wall_ns, scene.monotonic_ns
    for source, seconds, value in (("quick", 0.1, 10.0), ("slow", 15.0, 30.0), ("slower", 30.0, 50.0)):
        scene.wall_ns, scene.monotonic_ns = start
        metric = Metric("temperature", "gauge", "", "", ("room", "floor"))
        scene.collector(source, metric, interval_seconds=seconds, capacity=2000)
        for _ in range(round(60 / seconds)):
            scene.advance(seconds)
            scene.commit(source, ("temperature", value, {"room": "a", "floor": source}))
    rings = scene.rings()
    found = of(samples(rings, ("by", "room"), ("window", "1m")), "temperature", room="a")
    assert found["avg"] == pytest.approx(30.0)
    assert (found["min"], found["p50"], found["p95"], found["max"]) == (10.0, 30.0, 50.0, 50.0)
    assert found["sum"] == 600 * 10.0 + 4 * 30.0 + 2 * 50.0
    scene.path("slow").unlink()
    scene.path("slower").unlink()
    alone = of(samples(rings, ("by", "room"), ("window", "1m")), "temperature", room="a")
    assert (alone["avg"], alone["p99"]) == (10.0, 10.0)


def test_rates_by_a_label_are_the_sums_of_the_series_rates(scene: Scene) -> None:
    counter = Metric("hits_total", "counter", "H.", "", ("host", "code"))
    for i in range(5):
        for source, factor in (("one", 1), ("two", 10)):
            scene.collector(source, counter)
            scene.commit(
                source,
                ("hits_total", 15.0 * factor * i, {"host": source, "code": "200"}),
                ("hits_total", 150.0 * factor * i, {"host": source, "code": "500"}),
            )
        scene.advance(INTERVAL)
    scene.commit("one", ("hits_total", 0.0, {"host": "late", "code": "404"}))
    found = samples(scene.rings(), ("by", "code"))
    assert of(found, "hits", code="200") == {"rate": 11.0, "increase": 660.0}
    assert of(found, "hits", code="500") == {"rate": 110.0, "increase": 6600.0}
    assert of(found, "hits", code="404") == {}  # one sample makes no rate


def test_rates_go_by_the_monotonic_clock_when_the_wall_clock_is_set(scene: Scene) -> None:
    scene.commit("s", ("packets", 0.0))
    scene.advance(INTERVAL)
    scene.wall_ns += 100 * SECOND
    scene.commit("s", ("packets", 30.0))
    assert of(samples(scene.rings()), "packets") == {"rate": 2.0, "increase": 30.0}


def test_a_late_sample_of_a_counter_counts_where_it_belongs(scene: Scene) -> None:
    collector = scene.collector("s")
    for i in range(6):
        if i == 4:  # from between the second and the third, told between the fourth and the fifth
            collector.record_metric("packets", 150.0, {}, (scene.wall_ns - 2.5 * INTERVAL * SECOND) / SECOND)
        scene.commit("s", ("packets", 100.0 * i), ("temperature", 1.0, ROOM))
        scene.advance(INTERVAL)
    assert of(samples(scene.rings()), "packets") == {"increase": 500.0, "rate": pytest.approx(500 / (5 * INTERVAL))}


def test_a_late_sample_of_another_series_lengthens_no_counter_s_time(scene: Scene) -> None:
    collector = scene.collector("s")
    for i in range(4):
        collector.record_metric("temperature", 1.0, ROOM, (scene.wall_ns - 200 * SECOND) / SECOND)
        scene.commit("s", ("packets", 30.0 * i))
        scene.advance(INTERVAL)
    assert of(samples(scene.rings()), "packets") == {"increase": 90.0, "rate": 2.0}


def test_counters_of_frames_apart_alone_go_by_their_timestamps(namespace: str, scene: Scene) -> None:
    with open_writer(namespace) as writer:
        writer.add_series(Metric("c", "counter", ""), ())
        for ago, value in ((60, 0.0), (20, 80.0), (40, 40.0)):
            writer.append([value], scene.wall_ns - ago * SECOND, scene.monotonic_ns, 0)
        assert of(samples(scene.rings()), "c") == {"increase": 80.0, "rate": 2.0}


def test_a_sample_with_a_timestamp_of_its_own_is_in_the_window_of_its_time(scene: Scene) -> None:
    collector = scene.collector("s")
    for ago in (10, 100, 299, 300, 4000):
        collector.record_metric("temperature", float(ago), ROOM, (scene.wall_ns - ago * SECOND) / SECOND)
    scene.commit("s")
    assert of(samples(scene.rings()), "temperature", room="a") == plain([10.0, 100.0, 299.0])


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ([("metric", "packets")], {"packets"}),
        ([("metric", "packets"), ("metric", "latency")], {"packets", "latency"}),
        ([("metric", "hits")], {"hits"}),
        ([("metric", "hits_total")], {"hits"}),
        ([("match[]", "hits_total")], {"hits"}),
        ([("metric", "packets_total")], {"packets"}),
        ([("match[]", "packets_total")], {"packets"}),
        ([("metric", "temperature_total")], set()),
        ([("metric", "nothing")], set()),
        ([("match[]", 'temperature{room="a"}'), ("match[]", "packets")], {"temperature a", "packets"}),
        ([("match[]", '{room!="a"}')], {"temperature b", "packets", "latency", "hits"}),
        ([("stat", "rate")], {"packets", "hits"}),
        ([("stat", "p99")], {"temperature a", "temperature b", "latency"}),
        ([("source[]", "two")], {"temperature b"}),
        ([("source[]", "two"), ("metric", "packets")], set()),
    ],
)
def test_filters_choose_series_and_plain(scene: Scene, params: list[tuple[str, str]], expected: set[str]) -> None:
    hits = Metric("hits_total", "counter", "")
    scene.collector("one", hits)
    for i in range(2):
        scene.collector("one").register(hits)
        scene.commit("one", ("temperature", 1.0, ROOM), ("packets", float(i)), ("latency", 1.0, {"path": "/"}),
                     ("hits_total", float(i)))  # fmt: skip
        scene.commit("two", ("temperature", 2.0, {"room": "b"}))
        scene.advance(1)
    found = samples(scene.rings(), *params)
    assert {f"{name} {dict(labels).get('room', '')}".strip() for name, labels in found} == expected
    wanted = [stat for key, stat in params if key == "stat"]
    assert not wanted or {dict(labels)["stat"] for _, labels in found} == set(wanted)


def test_a_series_that_two_rings_claim_is_the_first_ring_s(scene: Scene) -> None:
    scene.commit("one", ("temperature", 1.0, ROOM))
    scene.commit("two", ("temperature", 2.0, ROOM))
    assert of(samples(scene.rings(), ("by", "room")), "temperature", room="a") == plain([1.0])
    assert of(samples(scene.rings()), "temperature", room="a") == plain([1.0])


@pytest.mark.parametrize("params", [[], [("by", "room")]])
@pytest.mark.parametrize("method", ["choose", "read"])
def test_a_ring_that_can_t_be_read_costs_its_own_series_alone(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, params: list[tuple[str, str]], method: str
) -> None:
    counter = Metric("hits", "counter", "", "", ("room",))
    for value in (1.0, 2.0):
        for source, room in (("bad", "b"), ("good", "g")):
            scene.collector(source).register(counter)
            scene.commit(source, ("temperature", value, {"room": room}), ("hits", value, {"room": room}))
        scene.advance(INTERVAL)
    rings = scene.rings()
    found = rings.refresh()

    def fails(*arguments: object) -> None:
        raise RingError("bad", "gone while it was read")

    monkeypatch.setattr(found[0].reader, method, fails)
    assert {dict(labels)["room"] for _, labels in samples(rings, *params)} == {"g"}
    assert rings.error_counts == {"bad": 1}


def test_absent_and_nan_samples_are_told_apart(scene: Scene) -> None:
    scene.commit("s", ("temperature", math.nan, ROOM))
    scene.commit("s", ("temperature", 3.0, {"room": "b"}))
    found = samples(scene.rings())
    assert of(found, "temperature", room="b") == plain([3.0])
    assert all(math.isnan(value) for value in of(found, "temperature", room="a").values())
    assert len(of(found, "temperature", room="a")) == 7


def test_columns_that_lie_apart_are_not_mixed_up(scene: Scene) -> None:
    """Gauges between counters and histograms, not in the order of their names: each gets its own column's numbers."""
    kinds: tuple[MetricType, ...] = ("gauge", "counter", "histogram", "gauge") * 6
    metrics = [
        Metric(f"m{-i % 24:02}", kind, "", buckets=(1.0,) if kind == "histogram" else ())
        for i, kind in enumerate(kinds)
    ]
    scene.collector("s", *metrics)
    for tick in range(2):
        scene.commit("s", *((metric.name, float(i + 100 * tick)) for i, metric in enumerate(metrics)))
        scene.advance(INTERVAL)
    found = samples(scene.rings(), ("stat", "max,increase"))
    assert found == {
        (metric.name, (("stat", "increase" if metric.type == "counter" else "max"),)): (
            100.0 if metric.type == "counter" else 100.0 + i
        )
        for i, metric in enumerate(metrics)
    }
