"""The exporter's own metrics at the end of /metrics."""

from __future__ import annotations

import os
from collections import Counter

import pytest

from exporter.app import Exporter
from exporter.applications import ApplicationSet
from exporter.rings import Counts, RingSet
from exporter.selfmetrics import SelfMetrics
from fogmetrics.config import Config
from fogmetrics.settings.tables import ShmConfig
from shm.table.format import table_path
from tests.exporter.scene import Sampled, Scene, get, own_page, samples_of

NOTHING = Counts(Counter(), Counter())


def own(rings: RingSet, elsewhere: Counts = NOTHING) -> SelfMetrics:
    rings.refresh()
    return SelfMetrics(rings, lambda: elsewhere)


def samples(one: SelfMetrics) -> Sampled:
    return samples_of(own_page(one))


def test_each_ring_tells_its_age_freshness_and_writer(scene: Scene) -> None:
    scene.commit("s", ("packets", 1.0))
    scene.collector("empty")
    scene.advance(50)
    found = samples(own(scene.rings()))
    label = (("source", "s"),)
    assert found["exporter_ring_age_seconds", label] == 50.0
    assert found["exporter_ring_fresh", label] == 0.0
    assert found["exporter_ring_writer_alive", label] == 1.0
    assert found["exporter_ring_skipped_frames_total", label] == 0.0
    assert ("exporter_ring_age_seconds", (("source", "empty"),)) not in found
    assert found["exporter_ring_fresh", (("source", "empty"),)] == 0.0
    scene.collector("s").close()
    assert samples(own(scene.rings()))["exporter_ring_writer_alive", label] == 0.0


def test_requests_are_counted_by_page_and_status_and_timed_by_page(scene: Scene) -> None:
    one = own(scene.rings())
    one.observe("metrics", 200, 0.25)
    one.observe("metrics", 200, 0.5)
    one.observe("metrics", 400, 0.25)
    one.observe("stats", 200, 2.0)
    found = samples(one)
    assert found["exporter_requests_total", (("page", "metrics"), ("status", "200"))] == 2
    assert found["exporter_requests_total", (("page", "metrics"), ("status", "400"))] == 1
    assert found["exporter_request_duration_seconds_sum", (("page", "metrics"),)] == 1.0
    assert found["exporter_request_duration_seconds_count", (("page", "metrics"),)] == 3
    assert found["exporter_request_duration_seconds_sum", (("page", "stats"),)] == 2.0


def test_errors_and_skipped_frames_of_both_sets_are_added(scene: Scene) -> None:
    scene.commit("s", ("packets", 1.0))
    scene.path("bad").write_bytes(b"no ring" * 1000)
    one = own(scene.rings(), Counts(Counter(s=3), Counter(bad=4)))
    found = samples(one)
    assert found["exporter_ring_skipped_frames_total", (("source", "s"),)] == 3
    assert found["exporter_ring_errors_total", (("source", "bad"),)] == 5
    assert found["exporter_ring_fresh", (("source", "bad"),)] == 0
    scene.path("bad").unlink()


def test_they_are_collected_again_after_a_second_and_not_before(scene: Scene) -> None:
    one = own(scene.rings())
    first = own_page(one)
    one.observe("metrics", 200, 0.1)
    scene.advance(0.9)
    assert own_page(one) == first
    scene.advance(0.1)
    assert "exporter_requests" in own_page(one)


def test_files_of_untrusted_users_are_one_gauge_and_one_line_of_the_log(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    paths = [*map(scene.path, "abc"), table_path(scene.namespace, "web", "1-0000000000000001")]
    for path in paths:
        path.touch()
    rings = scene.rings(owner=os.geteuid() + 1)
    applications = ApplicationSet(scene.namespace, {os.geteuid() + 1})
    one = SelfMetrics(rings, lambda: NOTHING, applications)
    for _ in range(3):
        rings.refresh(), applications.refresh()
        found = samples(one)
        assert found["exporter_foreign_files", ()] == 4
        assert not [name for name, labels in found if labels and not name.startswith("exporter_build")]
        scene.advance(1)
    assert [record.getMessage() for record in caplog.records] == ["foreign files"]
    for path in paths:
        path.unlink()
    rings.refresh(), applications.refresh()
    assert samples(one)["exporter_foreign_files", ()] == 0
    assert applications.applications == {}


def test_a_foreign_file_whose_name_is_no_text_costs_no_page(scene: Scene) -> None:
    path = os.fsencode(scene.path("x").with_suffix("")) + b"\xe9\n.ring"
    os.close(os.open(path, os.O_CREAT))
    exporter = Exporter(Config(shm=ShmConfig(namespace=scene.namespace, owner=str(os.geteuid() + 1))))
    for page in ("/metrics", "/stats", "/health"):
        assert get(exporter, page).status_code in (200, 503)
    assert r"x\udce9\n.ring' of user" in get(exporter, "/health").json()["foreign_files"]
    exporter.close()
    os.unlink(path)


def test_errors_of_a_ring_that_is_gone_are_not_kept(scene: Scene) -> None:
    scene.path("bad").write_bytes(b"no ring" * 1000)
    rings = scene.rings()
    one = own(rings, Counts(Counter(), Counter(bad=4)))
    assert samples(one)["exporter_ring_errors_total", (("source", "bad"),)] == 5
    scene.path("bad").unlink()
    rings.refresh()
    scene.advance(1)
    assert "exporter_ring_errors_total" not in {name for name, _ in samples(one)}
