"""What /metrics/aggregated says of the frames that its statistics are of."""

from __future__ import annotations

import pytest

from exporter.app import Exporter
from exporter.http.negotiation import Format
from exporter.http.parameters import parse_aggregated_query
from exporter.window.coverage import NAMES, OF_A_SOURCE
from fogmetrics.durations import parse_duration
from shm.errors import RingError
from shm.metric import Metric
from tests.exporter.scene import INTERVAL, NOW_NS, SECOND, Sampled, Scene, get, samples_of
from tests.rings import overwrite

NOW = NOW_NS // SECOND
ROOM = {"room": "a"}


def text(exporter: Exporter, *params: tuple[str, str], form: Format = Format.TEXT) -> str:
    return b"".join(exporter.aggregated_parts(parse_aggregated_query(params, 300 * SECOND), form)).decode()


def covered(exporter: Exporter, *params: tuple[str, str]) -> Sampled:
    return {key: value for key, value in samples_of(text(exporter, *params)).items() if key[0] in NAMES}


def of(found: Sampled, source: str) -> list[float | None]:
    """Frames, first and last timestamp, skipped frames."""
    return [found.get((gauge.name, (("source", source),))) for gauge in OF_A_SOURCE]


def sources(found: Sampled) -> set[str]:
    return {dict(labels)["source"] for _, labels in found if labels}


@pytest.mark.parametrize(
    ("steps", "later", "window", "expected"),
    [
        pytest.param([0] * 40, 0, "24h", [40, NOW, NOW + 39 * INTERVAL, 0], id="ten minutes are no day"),
        pytest.param([0], 1000, "5m", [0, None, None, 0], id="no frame"),
        pytest.param([0, -3600, 0], 3600, "24h", [3, NOW - 3600 + INTERVAL, NOW, 0], id="the wall clock was set back"),
        pytest.param(
            [0, 86_400, -86_400], 0, "1h", [2, NOW, NOW + 2 * INTERVAL, 0], id="and before that, forward by a day"
        ),
    ],
)
def test_the_frames_of_a_window_are_told_whatever_the_wall_clock_did(
    scene: Scene, steps: list[int], later: int, window: str, expected: list[float | None]
) -> None:
    """First and last are the earliest and the latest timestamp; what was stamped in the future is in no window yet."""
    for step in steps:
        scene.wall_ns += step * SECOND
        scene.commit("s", ("temperature", 1.0, ROOM))
        scene.advance(INTERVAL)
    scene.advance(later)
    found = covered(scene.exporter(), ("window", window))
    assert found["exporter_window_seconds", ()] == parse_duration(window) / SECOND
    assert of(found, "s") == expected


def test_the_page_ends_with_what_it_covers(scene: Scene) -> None:
    scene.commit("s", ("temperature", 1.0, ROOM))
    scene.advance(1.5)
    scene.commit("s", ("temperature", 2.0, ROOM))
    exporter = scene.exporter()
    page = text(exporter, ("stat", "max"), ("window", "90s"))
    assert page == (
        '# HELP temperature Over a window: Air, in °C: "dry"\\nback\\\\slash.\n'
        "# TYPE temperature gauge\n"
        'temperature{room="a",stat="max"} 2.0\n'
        "# HELP exporter_window_seconds The window that was asked for, in seconds.\n"
        "# TYPE exporter_window_seconds gauge\n"
        "exporter_window_seconds 90.0\n"
        "# HELP exporter_window_frames Frames of the source in the window; the p99 of 100 or fewer samples is their "
        "max, the p95 of 20 or fewer.\n"
        "# TYPE exporter_window_frames gauge\n"
        'exporter_window_frames{source="s"} 2.0\n'
        "# HELP exporter_window_first_timestamp_seconds Earliest timestamp of those frames, in Unix seconds.\n"
        "# TYPE exporter_window_first_timestamp_seconds gauge\n"
        'exporter_window_first_timestamp_seconds{source="s"} 1700000000.0\n'
        "# HELP exporter_window_last_timestamp_seconds Latest timestamp of those frames, in Unix seconds.\n"
        "# TYPE exporter_window_last_timestamp_seconds gauge\n"
        'exporter_window_last_timestamp_seconds{source="s"} 1700000001.5\n'
        "# HELP exporter_window_skipped_frames Slots that were torn or lapped when the window was read.\n"
        "# TYPE exporter_window_skipped_frames gauge\n"
        'exporter_window_skipped_frames{source="s"} 0.0\n'
    )
    openmetrics = text(exporter, ("stat", "max"), ("window", "90s"), form=Format.OPENMETRICS)
    assert samples_of(openmetrics, Format.OPENMETRICS) == samples_of(page)
    assert "# UNIT exporter_window_first_timestamp_seconds seconds\n" in openmetrics
    assert openmetrics.endswith("# EOF\n")


def test_slots_that_were_skipped_are_told(scene: Scene) -> None:
    for _ in range(3):
        scene.commit("s", ("temperature", 1.0, ROOM))
    writer = scene.collectors["s"].writer
    overwrite(scene.path("s"), writer.header.slot_offset(2) + 48, b"torn")
    assert of(covered(scene.exporter()), "s") == [2, NOW, NOW, 1]


@pytest.mark.parametrize(
    ("params", "there"),
    [
        ([], {"one", "two"}),
        ([("source[]", "two")], {"two"}),
        ([("metric", "temperature")], {"one"}),
        ([("match[]", "hits")], {"two"}),
        ([("stat", "increase")], {"two"}),
        ([("by", "room")], {"one", "two"}),
        ([("by", "room"), ("stat", "max")], {"one"}),
        ([("metric", "nothing")], set()),
    ],
)
def test_only_the_sources_of_the_answer_are_told_of(
    scene: Scene, params: list[tuple[str, str]], there: set[str]
) -> None:
    scene.commit("one", ("temperature", 1.0, ROOM))
    scene.collector("two", Metric("hits", "counter", "", "", ("room",)))
    scene.commit("two", ("hits", 1.0, ROOM))
    exporter = scene.exporter()
    assert sources(covered(exporter, *params)) == there
    if not there:
        assert text(exporter, *params) == ""


def test_a_ring_that_can_t_be_read_has_no_coverage(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.commit("bad", ("temperature", 1.0, ROOM))
    scene.commit("good", ("temperature", 1.0, {"room": "b"}))
    exporter = scene.exporter()
    text(exporter)

    def fails(*arguments: object) -> None:
        raise RingError("bad", "gone while it was read")

    monkeypatch.setattr(exporter._history.rings["bad"].reader, "read", fails)
    assert sources(covered(exporter)) == {"good"}


def test_a_metric_of_a_ring_can_t_take_their_names(scene: Scene) -> None:
    scene.collector("s", Metric("exporter_window_frames", "gauge", ""))
    scene.commit("s", ("exporter_window_frames", 5.0))
    exporter = scene.exporter()
    assert text(exporter) == ""
    assert ("exporter_window_frames", ()) not in samples_of(get(exporter, "/metrics").text)
    [conflict] = get(exporter, "/stats").json()["conflicts"]
    assert conflict["reason"] == "the name exporter_window_frames is the exporter's own"
