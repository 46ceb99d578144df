"""What is told of histograms and summaries of which no raw sample is known."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.window.from_buckets import statistics
from exporter.window.statistics import STATS
from shm.metric import Metric
from shm.ring.frame import absent, all_absent
from tests.exporter.scene import INTERVAL, Scene
from tests.exporter.window.test_page import of, samples

SECONDS = Metric("seconds", "histogram", "Time.", "seconds", ("path",), (0.1, 0.5, 1.0))
PAYLOAD = Metric("payload", "summary", "Size.", "", ("path",))


def quantile(share: float, bounds: Sequence[float], counts: Sequence[float]) -> float:
    """histogram_quantile as the Prometheus documentation says it, one bucket after the other."""
    rank = share * sum(counts)
    below = 0.0
    for i, count in enumerate(counts):
        if below + count >= rank and count > 0:
            if i == len(bounds):
                return bounds[-1]
            lower = bounds[i - 1] if i else min(0.0, bounds[0])
            if i == 0 and bounds[0] <= 0:
                return bounds[0]
            return lower + (bounds[i] - lower) * (rank - below) / count
        below += count
    return math.nan


_bounds = st.lists(st.integers(-20, 20), min_size=1, max_size=5, unique=True).map(lambda some: sorted(map(float, some)))


@given(st.data())
def test_percentiles_are_those_of_histogram_quantile(data: st.DataObject) -> None:
    bounds = data.draw(_bounds)
    rows = data.draw(
        st.lists(
            st.lists(st.integers(0, 9), min_size=len(bounds) + 1, max_size=len(bounds) + 1), min_size=1, max_size=4
        )
    )
    increases = np.array([[*np.cumsum(row), 7.0] for row in rows], dtype=np.float64)
    found = statistics(bounds, increases, STATS)
    for i, row in enumerate(rows):
        if not sum(row):
            assert absent(np.array([found[stat][i] for stat in STATS])).all()
            continue
        assert (found["sum"][i], found["avg"][i]) == (7.0, 7.0 / sum(row))
        for stat, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
            assert found[stat][i] == pytest.approx(quantile(share, bounds, row)), (stat, row)
        assert absent(np.array([found["min"][i], found["max"][i]])).all()


def test_a_bucket_that_is_absent_is_none_and_a_count_that_is_absent_tells_nothing() -> None:
    increases = np.array([[2.0, 0.0, 4.0, 4.0, 9.0], [0.0] * 5])
    increases[0, 1] = all_absent(1)[0]
    increases[1, 3] = all_absent(1)[0]
    found = statistics((1.0, 2.0, 3.0), increases, ("p50", "avg"))
    assert found["p50"][0] == 1.0
    assert absent(found["p50"])[1]
    assert absent(found["avg"])[1]


def test_the_page_tells_of_increases_over_the_window_and_of_resets(scene: Scene) -> None:
    collector = scene.collector("s", SECONDS, PAYLOAD)
    # 10 before the window, then 4 below 0.1 and 6 up to 0.5; a reset; then 10 up to 1.0.
    for buckets, total in (((10, 10, 10), 1.0), ((14, 20, 20), 3.5), ((0, 0, 10), 3.0)):
        count = buckets[-1]
        collector.record_counted("seconds", [*buckets, count, total], {"path": "/"})
        collector.record_counted("payload", [count, total], {"path": "/"})
        scene.advance(INTERVAL)
        collector.commit(scene.wall_ns, scene.monotonic_ns)
    found = samples(scene.rings())
    assert of(found, "seconds", path="/") == {
        "sum": pytest.approx(2.5 + 3.0), "avg": pytest.approx(5.5 / 20), "p50": pytest.approx(0.5),
        "p95": pytest.approx(0.5 + 0.5 * (19 - 10) / 10), "p99": pytest.approx(0.5 + 0.5 * (19.8 - 10) / 10),
    }  # fmt: skip
    assert of(found, "payload", path="/") == {"sum": pytest.approx(5.5), "avg": pytest.approx(5.5 / 20)}
    assert of(samples(scene.rings(), ("stat", "p95,max")), "payload", path="/") == {}
    assert of(samples(scene.rings(), ("stat", "avg")), "payload", path="/") == {"avg": pytest.approx(5.5 / 20)}


def test_raw_samples_where_there_are_some_tell_more(scene: Scene) -> None:
    collector = scene.collector("s", SECONDS)
    for value in (0.2, 0.3):
        collector.record_metric("seconds", value, {"path": "/"})
        collector.record_counted("seconds", [1, 2, 3, 3, value * 10], {"path": "/counted"})
        scene.advance(INTERVAL)
        collector.commit(scene.wall_ns, scene.monotonic_ns)
    found = of(samples(scene.rings()), "seconds", path="/")
    assert (found["min"], found["max"], found["p99"]) == (0.2, 0.3, 0.3)
    assert of(samples(scene.rings()), "seconds", path="/counted") == {}  # nothing was counted between the two


def test_pools_count_together(scene: Scene) -> None:
    for source in ("a", "b"):
        collector = scene.collector(source, SECONDS, PAYLOAD)
        for times in (1, 2):
            collector.record_counted("seconds", [0, 4 * times, 4 * times, 4 * times, times], {"path": f"/{source}"})
            collector.record_counted("seconds", [times, times, times, times, times], {"path": "/both" + source[:0]})
            collector.record_counted("payload", [times, 3 * times], {"path": "/both"})
            collector.commit(scene.wall_ns + times, scene.monotonic_ns + times)
        scene.advance(INTERVAL)
    found = samples(scene.rings(), ("by", "path"))
    assert of(found, "seconds", path="/a") == {
        "sum": 1.0, "avg": 0.25, "p50": pytest.approx(0.3), "p95": pytest.approx(0.48), "p99": pytest.approx(0.496)
    }  # fmt: skip
    # Of the same series in two rings the first one's counts.
    assert of(found, "payload", path="/both") == {"sum": 3.0, "avg": 3.0}
    assert of(found, "seconds", path="/both")["avg"] == 1.0


def test_a_long_window_tells_the_same(scene: Scene) -> None:
    collector = scene.collector("s", SECONDS, capacity=4096)
    total = np.zeros(4)
    chance = np.random.default_rng(7)
    first = None
    for _ in range(1500):
        total += np.cumsum(chance.integers(0, 3, 4))
        first = total.copy() if first is None else first
        collector.record_counted("seconds", [*total.tolist(), float(total[-1]) / 3], {"path": "/"})
        scene.advance(INTERVAL)
        collector.commit(scene.wall_ns, scene.monotonic_ns)
    assert first is not None
    rings = scene.rings()
    for _ in range(2):
        found = of(samples(rings, ("window", "24h")), "seconds", path="/")
        counts = np.diff(total - first, prepend=0.0).tolist()
        assert found["p95"] == pytest.approx(quantile(0.95, SECONDS.buckets, counts))
        assert found["avg"] == pytest.approx(1 / 3)
