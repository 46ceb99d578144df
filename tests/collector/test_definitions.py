from __future__ import annotations

from collections.abc import Iterable

import pytest

from collector.collector import MetricCollector
from shm.catalog import Metric
from shm.errors import MetricError, NoSpace
from shm.reader import RingReader
from shm.writer import RingWriter

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

    def no_space(writer: RingWriter, metrics: Iterable[Metric]) -> list[str]:
        raise NoSpace("app", "none left")

    monkeypatch.setattr(RingWriter, "redefine", no_space)
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
        assert second.series_dropped == 4
        [said] = [record for record in caplog.records if record.message == "metrics not redefined"]
        assert said.__dict__["metrics"] == "latency"
        assert said.__dict__["error"] == "ring 'app': none left"
        [dropped] = [record for record in caplog.records if record.message == "series dropped"]
        assert dropped.__dict__["metric"] == "latency"
        assert "remedy" not in dropped.__dict__, "a higher limit would help nobody"
        with RingReader(namespace, "app") as reader:
            columns = {series.metric.name: series.column for series in reader.series}
            depth = reader.frames().values[:, columns["depth"]]
            assert [value for value in depth.tolist() if value == value] == [1, 2, 3]
        full.undo()
        second.record_metric("latency", 50)
        second.commit()
        assert second.writer.metrics["latency"] == NEW
        with RingReader(namespace, "app") as reader:
            frame = reader.latest()
            assert frame is not None
            [series] = [one for one in reader.series if one.metric.name == "latency"]
            assert frame.value(series.column) == 50
            # Buckets, count and sum of all that was observed, also while it waited.
            assert [frame.value(column) for column in range(series.column + 1, series.end)] == [0, 5, 5, 250]


def test_a_metric_is_declared_once(namespace: str) -> None:
    with MetricCollector("app", namespace=namespace, capacity=64) as collector:
        collector.register(OLD)
        collector.register(OLD)
        with pytest.raises(MetricError, match="registered as"):
            collector.register(NEW)
