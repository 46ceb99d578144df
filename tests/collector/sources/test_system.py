from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest

from collector.frame.collector import MetricCollector
from collector.metrics import DEPLOYMENT, NODE
from collector.sources.system import SystemMetricSource, SystemOptions
from shm.files import ring_path
from shm.ring.reader import RingReader
from tests.failing import raising


def collected(source: SystemMetricSource) -> dict[str, float | None]:
    return {sample.metric: sample.value for sample in source.collect().samples}


def test_uptime_comes_from_the_configured_proc(tmp_path: Path, namespace: str) -> None:
    (tmp_path / "uptime").write_text("12.5 3.0\n")
    source = SystemMetricSource(SystemOptions(proc=str(tmp_path)), namespace)
    assert collected(source) == {"system_uptime": 12.5}


@pytest.mark.parametrize("text", [None, "", "soon\n"])
def test_an_uptime_that_cannot_be_read_costs_itself_alone(tmp_path: Path, namespace: str, text: str | None) -> None:
    if text is not None:
        (tmp_path / "uptime").write_text(text)
    source = SystemMetricSource(SystemOptions(proc=str(tmp_path)), namespace)
    assert not source.collect().up
    with MetricCollector("node", namespace=namespace) as node:
        node.register(*NODE)
        node.record_metric("node_cpu_usage", 1, {"node_id": "fog-1"})
        node.commit()
        collection = source.collect()
    assert collection.up
    assert [(sample.metric, sample.value) for sample in collection.samples] == [("system_total_nodes", 1)]
    [error] = collection.errors
    assert error.startswith("system_uptime: ")
    assert str(tmp_path / "uptime") in error
    source.close()


def test_the_real_uptime_is_that_since_the_boot(namespace: str) -> None:
    found = collected(SystemMetricSource(namespace=namespace))["system_uptime"]
    assert found == pytest.approx(time.time() - psutil.boot_time(), abs=30)


def test_nodes_and_deployments_are_absent_while_no_ring_could_know(namespace: str) -> None:
    assert set(collected(SystemMetricSource(namespace=namespace))) == {"system_uptime"}


def test_nodes_are_distinct_over_all_rings_and_deployments_those_with_a_replica(namespace: str) -> None:
    with (
        MetricCollector("node", namespace=namespace) as node,
        MetricCollector("deployment", namespace=namespace) as rest,
    ):
        node.register(*NODE)
        rest.register(*NODE, *DEPLOYMENT)
        for name in ("node_cpu_usage", "node_memory_usage"):
            node.record_metric(name, 1, {"node_id": "fog-1"})
        node.record_metric("node_cpu_usage", 1, {"node_id": "fog-2"})
        rest.record_metric("node_cpu_usage", 1, {"node_id": "fog-2"})
        for deployment, replicas in (("web", 3), ("api", 1), ("stopped", 0)):
            rest.record_metric("deployment_replica_count", replicas, {"deployment_id": deployment})
        node.commit()
        rest.commit()
        source = SystemMetricSource(namespace=namespace)
        found = collected(source)
        assert found["system_total_nodes"] == 2
        assert found["system_active_deployments"] == 2
        # The next frame has one node less, and no deployment runs.
        node.record_metric("node_cpu_usage", 1, {"node_id": "fog-2"})
        rest.record_metric("deployment_replica_count", 0, {"deployment_id": "web"})
        node.commit()
        rest.commit()
        found = collected(source)
        assert found["system_total_nodes"] == 1
        assert found["system_active_deployments"] == 0
        source.close()


def test_a_stale_ring_says_nothing_about_now(namespace: str) -> None:
    with MetricCollector("node", namespace=namespace, interval_seconds=1) as node:
        node.register(*NODE)
        node.record_metric("node_cpu_usage", 1, {"node_id": "fog-1"})
        node.commit(monotonic_ns=10_000_000_000)
        source = SystemMetricSource(namespace=namespace, monotonic=lambda: 12_900_000_000)
        assert collected(source)["system_total_nodes"] == 1
        source = SystemMetricSource(namespace=namespace, monotonic=lambda: 13_100_000_000)
        assert "system_total_nodes" not in collected(source)


def test_its_own_ring_is_not_counted(namespace: str) -> None:
    with MetricCollector("system", namespace=namespace) as own:
        own.register(*NODE)
        own.record_metric("node_cpu_usage", 1, {"node_id": "fog-1"})
        own.commit()
        assert "system_total_nodes" not in collected(SystemMetricSource(namespace=namespace))


def test_a_broken_ring_costs_itself_alone_and_is_named(namespace: str) -> None:
    with MetricCollector("node", namespace=namespace) as node:
        node.register(*NODE)
        node.record_metric("node_cpu_usage", 1, {"node_id": "fog-1"})
        node.commit()
        ring_path(namespace, "broken").write_bytes(b"not a segment")
        collection = SystemMetricSource(namespace=namespace).collect()
        assert {sample.metric: sample.value for sample in collection.samples}["system_total_nodes"] == 1
        [error] = collection.errors
        assert "ring 'broken'" in error


def test_a_ring_that_uses_the_name_of_the_replicas_for_something_else_costs_nothing(namespace: str) -> None:
    with MetricCollector("own", namespace=namespace) as own:
        own.register_metric("deployment_replica_count", "gauge", label_names=("app",))
        own.record_metric("deployment_replica_count", 3, {"app": "web"})
        own.commit()
        assert set(collected(SystemMetricSource(namespace=namespace))) == {"system_uptime"}


def test_a_ring_that_cannot_be_read_for_want_of_descriptors_costs_no_uptime(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with MetricCollector("node", namespace=namespace):
        monkeypatch.setattr(RingReader, "latest", raising(OSError(24, "Too many open files")))
        collection = SystemMetricSource(namespace=namespace).collect()
    assert [sample.metric for sample in collection.samples] == ["system_uptime"]
    assert list(collection.errors) == ["ring 'node': OSError: [Errno 24] Too many open files"]


def test_a_ring_that_grew_is_followed(namespace: str) -> None:
    with MetricCollector("node", namespace=namespace, capacity=64) as node:
        node.register(*NODE)
        source = SystemMetricSource(namespace=namespace)
        for count in (1, 20, 60):
            for i in range(count):
                node.record_metric("node_cpu_usage", 1, {"node_id": f"fog-{i}"})
            node.commit()
            assert collected(source)["system_total_nodes"] == count
        source.close()
