"""/stats and /health: the numbers of rings whose content is known."""

from __future__ import annotations

import os
from typing import Any

import orjson
import pytest

from collector import metrics
from exporter.exposition.conflicts import Conflict
from exporter.status.stats import health, stats
from shm.metric import Metric, Series
from tests.exporter.scene import INTERVAL, METRICS, Scene
from tests.rings import append_proof, open_writer

ROOM = {"room": "a"}


def fill(scene: Scene) -> None:
    scene.collector("one", *METRICS, *metrics.OWN)
    for i in range(4):
        if i != 2:
            scene.collector("one").record_metric("temperature", float(i), ROOM)
        scene.commit(
            "one", ("latency", 1.0, {"path": "/"}), ("latency", 2.0, {"path": "/"}),
            ("collector_up", 1.0, {"source": "one"}), ("collector_series_dropped_total", 7.0, {"source": "one"}),
        )  # fmt: skip
        scene.advance(INTERVAL)
    scene.collector("two", Metric("other", "gauge", "O."), METRICS[0])
    scene.commit("two", ("temperature", 1.0, {"room": "b"}), ("temperature", 1.0, {"room": "c"}))


def test_samples_are_counted_and_a_histogram_s_are_the_raw_ones(scene: Scene) -> None:
    fill(scene)
    found = stats(scene.rings())
    assert found["buffer_stats"] == {"latency": 4, "other": 0, "packets": 0, "temperature": 5}
    assert found["registered_metrics"] == ["latency", "other", "packets", "temperature"]
    assert found["total_metrics"] == 4
    assert found["daemon_metrics"].keys() == {metric.name for metric in metrics.OWN}
    assert found["daemon_metrics"]["collector_up"] == 4
    assert found["total_samples"] == 9 + 8
    assert found["errors"] == {}
    assert found["conflicts"] == []


def test_each_ring_is_told_in_full(scene: Scene) -> None:
    fill(scene)
    found = stats(scene.rings())
    header = scene.collector("one").writer.header
    assert found["rings"]["one"] == {
        "sequence": 4,
        "frames": 4,
        "capacity": 64,
        "fill": 0.0625,
        "interval_seconds": 15.0,
        "series": 4,
        "columns": 1 + 6 + 1 + 1,
        "width": header.width,
        "bytes": header.segment_bytes,
        "age_seconds": 15.0,
        "stale": False,
        "writer_alive": True,
        "writer_pid": os.getpid(),
        "skipped_frames": 0,
        "dropped_samples": 7.0,
        "limited_metrics": {},
        "generation": header.generation,
    }
    assert found["total_bytes"] == sum(ring["bytes"] for ring in found["rings"].values())
    assert found["rings"]["one"]["bytes"] == scene.path("one").stat().st_size
    assert orjson.loads(orjson.dumps(found)) == found


def test_a_ring_that_has_come_round_is_full_and_counts_what_it_holds(scene: Scene) -> None:
    with open_writer(scene.namespace, capacity=16, columns=2) as writer:
        append_proof(writer, 40)
        found = stats(scene.rings())
        ring = found["rings"]["s"]
        assert (ring["fill"], ring["sequence"]) == (1.0, 40)
        assert found["buffer_stats"]["gauge"] == 2 * ring["frames"]
        assert 10 <= ring["frames"] <= 16


def test_a_ring_that_was_made_larger_is_as_full_as_its_frames_are_many(scene: Scene) -> None:
    with open_writer(scene.namespace, capacity=16, columns=2) as writer:
        append_proof(writer, 40)
    with open_writer(scene.namespace, capacity=160, columns=2):
        ring = stats(scene.rings())["rings"]["s"]
        assert ring["sequence"] == 40
        assert ring["fill"] == ring["frames"] / 160 < 0.11


def test_a_ring_without_frames_has_no_age(scene: Scene) -> None:
    scene.collector("s")
    found = stats(scene.rings())["rings"]["s"]
    assert (found["age_seconds"], found["stale"], found["frames"], found["dropped_samples"]) == (None, True, 0, None)


def test_metrics_at_their_limit_are_named(scene: Scene) -> None:
    collector = scene.collector("s")
    collector.cardinality.max_series_per_metric = 1
    scene.commit("s", ("temperature", 1.0, ROOM), ("temperature", 1.0, {"room": "b"}))
    assert stats(scene.rings())["rings"]["s"]["limited_metrics"] == {"temperature": 1}


def test_tables_that_fit_no_metric_of_any_ring_are_named(scene: Scene) -> None:
    scene.commit("one", ("packets", 1.0))
    scene.commit("two", ("temperature", 1.0, ROOM))
    tables = ("packets", "packets_total", "temp*", "temprature", "pakets_*", "latency_bucket")
    found = stats(scene.rings(), tables=tables)
    assert found["unused_tables"] == ["[metric.temprature]", '[metric."pakets_*"]', "[metric.latency_bucket]"]


def test_conflicts_and_errors_are_named(scene: Scene) -> None:
    scene.commit("one", ("packets", 1.0))
    scene.commit("two", ("packets", 1.0), ("temperature", 1.0, ROOM))
    scene.path("bad").write_bytes(b"no ring" * 1000)
    found = stats(scene.rings(), [Series(Metric("temperature", "gauge", "T.", "", ("room",)), tuple(ROOM.values()), 0)])
    assert found["conflicts"] == [
        {"source": "two", "metric": "packets", "reason": "ring 'one' has the same series", "series": 1},
        {"source": "two", "metric": "temperature", "reason": "the exporter has the same series", "series": 1},
    ]
    assert found["errors"].keys() == {"bad"}
    assert found["rings"].keys() == {"one", "two"}
    scene.path("bad").unlink()


def test_a_ring_that_fails_while_it_is_read_costs_itself_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(scene)
    rings = scene.rings()
    [one, _] = rings.refresh()
    monkeypatch.setattr(one.reader, "frames", lambda *arguments: 1 // 0)
    found = stats(rings)
    assert found["rings"].keys() == {"two"}
    assert "ZeroDivisionError" in found["errors"]["one"]


# ---- /health -----------------------------------------------------------------------------------------------------


NO_FRAME = {"up": None, "last_success": None, "writer_alive": True}


def checked(scene: Scene) -> tuple[bool, dict[str, Any]]:
    return health(scene.rings())


def test_one_fresh_source_is_health(scene: Scene) -> None:
    fill(scene)
    scene.collector("empty")
    scene.advance(40)
    fresh, found = checked(scene)
    assert fresh
    assert found == {
        "status": "degraded",
        "problems": [
            "source empty: no frame yet; is its program running?",
            "source one: no frame for 55 s; is its program running?",
        ],
        "sources": {
            "empty": NO_FRAME | {"status": "empty", "age_seconds": None},
            "one": NO_FRAME | {"status": "stale", "age_seconds": 55.0},
            "two": NO_FRAME | {"status": "fresh", "age_seconds": 40.0},
        },
    }
    scene.advance(6)
    assert checked(scene)[0] is False
    assert checked(scene)[1]["status"] == "failing"


def test_only_sources_that_are_on_degrade_health(scene: Scene) -> None:
    """A ring of a program that ended, or of a source that the configuration no longer has, is not missed."""
    fill(scene)
    scene.advance(40)
    assert health(scene.rings(), on=["two"])[1]["status"] == "ok"
    degraded = health(scene.rings(), on=["two", "three"])[1]
    assert (degraded["status"], degraded["problems"]) == (
        "degraded", ["source three: no ring; is its program running?"]
    )  # fmt: skip


def test_health_names_what_hides_samples_and_which_program_fails(scene: Scene) -> None:
    fill(scene)
    hidden = Conflict("two", "packets", "ring 'one' has the same series", 1)
    found = health(scene.rings(), programs=["program x is FATAL: no such file; its log, /x.log, says why"],
                   conflicts=[hidden])[1]  # fmt: skip
    assert found["problems"] == [
        "program x is FATAL: no such file; its log, /x.log, says why",
        "source two: 1 series of packets are hidden: ring 'one' has the same series",
    ]


@pytest.mark.parametrize("up", [True, False])
def test_a_fresh_source_tells_whether_its_last_collection_succeeded(scene: Scene, up: bool) -> None:
    scene.collector("s", *metrics.OWN)
    scene.commit("s", ("collector_up", float(up), {"source": "s"}))
    assert checked(scene)[1]["sources"]["s"]["up"] is up
    assert checked(scene)[1]["status"] == ("ok" if up else "degraded")
    scene.commit("s")
    assert checked(scene)[1]["sources"]["s"]["up"] is None


def test_a_source_that_is_down_is_named_with_the_time_since_when(scene: Scene) -> None:
    scene.collector("s", *metrics.OWN)
    labels = {"source": "s"}
    scene.commit("s", ("collector_up", 0.0, labels))
    assert checked(scene)[1]["problems"] == ["source s: down from the start; its log says why"]
    scene.commit(
        "s", ("collector_up", 0.0, labels), ("collector_last_success_timestamp_seconds", 1_700_000_000.5, labels)
    )
    fresh, found = checked(scene)
    assert fresh
    assert found["problems"] == ["source s: down since 2023-11-14T22:13:20Z; its log says why"]
    assert found["sources"]["s"]["last_success"] == "2023-11-14T22:13:20Z"


def test_an_unreadable_ring_has_its_error_beside_it(scene: Scene) -> None:
    scene.commit("good", ("packets", 1.0))
    scene.path("bad").write_bytes(b"no ring" * 1000)
    fresh, found = checked(scene)
    assert fresh
    assert found["sources"]["bad"]["status"] == "unreadable"
    assert "not a fogmetrics segment" in found["sources"]["bad"]["error"]
    scene.path("bad").unlink()


def test_a_writer_that_has_ended_is_not_alive(scene: Scene) -> None:
    fill(scene)
    rings = scene.rings()
    scene.collector("one").close()
    for told in (stats(rings)["rings"], health(rings)[1]["sources"]):
        assert {source: one["writer_alive"] for source, one in told.items()} == {"one": False, "two": True}
