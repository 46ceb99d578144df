from __future__ import annotations

from collections.abc import Iterator

from exporter.status.largest import largest
from exporter.status.stats import stats
from shm.metric import Metric, Series
from tests.exporter.scene import Scene


def series(name: str, labels: tuple[str, ...], *values: tuple[str, ...], own: bool = False) -> Iterator[Series]:
    metric = Metric(name, "gauge", "", "", labels, own=own)
    return (Series(metric, one, 0) for one in values)


def test_metrics_are_counted_by_series_and_labels_by_distinct_values_the_most_first() -> None:
    found = largest(
        [
            *series("plain", (), ()),
            *series("hits", ("host", "path"), ("a", "1"), ("a", "2"), ("b", "1"), ("a", "3")),
            *series("depth", ("path",), ("x",), ("y",)),
            *series("depth", ("path",), ("y",), ("z",)),  # of another ring
            *series("collector_up", ("source",), *((str(i),) for i in range(100)), own=True),
        ]
    )
    assert found == {
        "largest_metrics": [
            {"metric": "depth", "series": 4},
            {"metric": "hits", "series": 4},
            {"metric": "plain", "series": 1},
        ],
        "largest_labels": [
            {"metric": "depth", "label": "path", "values": 3},
            {"metric": "hits", "label": "path", "values": 3},
            {"metric": "hits", "label": "host", "values": 2},
        ],
    }


def test_ten_are_named_and_no_more() -> None:
    found = largest(
        one for i in range(30) for one in series(f"m{i:02}", ("k",), *((str(value),) for value in range(i + 1)))
    )
    assert [one["metric"] for one in found["largest_metrics"]] == [f"m{i}" for i in range(29, 19, -1)]
    assert [(one["metric"], one["values"]) for one in found["largest_labels"]] == [
        (f"m{i}", i + 1) for i in range(29, 19, -1)
    ]


def test_they_are_of_all_rings_that_can_be_read(scene: Scene) -> None:
    for ring, rooms in (("one", "ab"), ("two", "bcd")):
        scene.commit(ring, *(("temperature", 1.0, {"room": room}) for room in rooms))
    scene.path("bad").write_bytes(b"no ring" * 1000)
    found = stats(scene.rings())
    assert found["largest_metrics"] == [{"metric": "temperature", "series": 5}]
    assert found["largest_labels"] == [{"metric": "temperature", "label": "room", "values": 4}]
