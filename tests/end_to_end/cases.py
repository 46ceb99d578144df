"""The eight cases that say a daemon works. Each takes its base URL, raises AssertionError, returns what it saw.

The end to end tests run them against a daemon of their own; ``make smoke URL=…`` against a running one.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from collector.metrics import ALL
from exporter.window.statistics import STATS
from tests import http_client

Case = Callable[[str], str]


def _stats(base: str) -> dict[str, Any]:
    response = http_client.get(f"{base}/stats")
    assert response.status_code == 200, f"/stats answered {response.status_code}"
    found: dict[str, Any] = response.json()
    return found


def families(base: str, path: str) -> dict[str, Metric]:
    """The page's metric families by name, parsed by prometheus-client."""
    response = http_client.get(f"{base}{path}")
    assert response.status_code == 200, f"{path} answered {response.status_code}: {response.text[:200]}"
    return {family.name: family for family in text_string_to_metric_families(response.text)}


def health(base: str) -> str:
    """/health answers 200, with a status per source and at least one that is fresh."""
    response = http_client.get(f"{base}/health")
    assert response.status_code == 200, f"/health answered {response.status_code}: {response.text}"
    sources = response.json()["sources"]
    fresh = [name for name, one in sources.items() if one["status"] == "fresh"]
    assert fresh, f"no source is fresh: {sources}"
    return f"fresh: {', '.join(fresh)}"


def stats(base: str) -> str:
    """/stats tells of the 15 metrics, and of every ring."""
    found = _stats(base)
    assert found["total_metrics"] == len(found["registered_metrics"]) >= len(ALL), found["registered_metrics"]
    assert set(found["buffer_stats"]) == set(found["registered_metrics"])
    assert found["rings"], "no ring"
    return f"{found['total_metrics']} metrics in {len(found['rings'])} rings"


def metrics(base: str) -> str:
    """/metrics is Prometheus text with types, and says of every source whether it is up."""
    found = families(base, "/metrics")
    assert found["collector_up"].type == "gauge"
    up = {sample.labels["source"]: sample.value for sample in found["collector_up"].samples}
    assert up, "no source says whether it is up"
    assert found["process_cpu_seconds"].type == "counter"
    return f"{sum(len(family.samples) for family in found.values())} samples; up: {up}"


def waiting_for_collection(base: str) -> str:
    """Within two intervals every fresh ring has a newer frame."""
    before = {name: ring for name, ring in _stats(base)["rings"].items() if not ring["stale"]}
    assert before, "no ring is fresh"
    limit = time.monotonic() + 2 * max(ring["interval_seconds"] for ring in before.values()) + 2
    waiting = set(before)
    while waiting and time.monotonic() < limit:
        time.sleep(0.1)
        now = _stats(base)["rings"]
        waiting -= {name for name in waiting if now[name]["sequence"] > before[name]["sequence"]}
    assert not waiting, f"no new frame from {', '.join(sorted(waiting))}"
    return f"new frames from {', '.join(sorted(before))}"


def aggregated_available(base: str) -> str:
    """/metrics/aggregated has all seven statistics of each series that is on /metrics, in a sane order."""
    latest, found = families(base, "/metrics"), families(base, "/metrics/aggregated")
    checked = 0
    for metric in ALL:
        if metric.family not in latest or metric.type != "gauge":
            continue
        by_labels: dict[tuple[tuple[str, str], ...], dict[str, float]] = {}
        for sample in found[metric.family].samples:
            key = tuple(sorted((name, value) for name, value in sample.labels.items() if name != "stat"))
            by_labels.setdefault(key, {})[sample.labels["stat"]] = sample.value
        for labels, values in by_labels.items():
            assert set(values) == set(STATS), f"{metric.name}{labels} has {sorted(values)}"
            assert values["min"] <= values["p50"] <= values["p95"] <= values["p99"] <= values["max"], (metric, values)
            assert values["min"] - 1e-9 <= values["avg"] <= values["max"] + 1e-9, (metric, values)
            checked += 1
    assert checked, "nothing to aggregate"
    return f"{checked} series with {', '.join(STATS)}"


def buffer_fill(base: str) -> str:
    """The rings hold what their sequences promise: as many frames, up to their capacity, less the guard.

    One that was rebuilt may hold fewer: it was smaller before, or somebody cut it.
    """
    rings = _stats(base)["rings"]
    for name, ring in rings.items():
        held = min(ring["sequence"], ring["capacity"])
        least = held - 8 if ring["generation"] == 0 else 1
        assert least <= ring["frames"] <= held, f"ring {name} holds {ring['frames']} of {held} frames"
    return ", ".join(f"{name} {ring['frames']}/{ring['capacity']}" for name, ring in rings.items())


def labels(base: str) -> str:
    """Every sample of the 15 metrics has exactly its metric's labels, each with a value."""
    found = families(base, "/metrics")
    seen = 0
    for metric in ALL:
        for sample in found[metric.family].samples if metric.family in found else ():
            names = set(sample.labels) - {"le"}
            assert names == set(metric.label_names), f"{sample.name} has the labels {sorted(names)}"
            assert all(sample.labels.values()), f"{sample.name} has an empty label: {sample.labels}"
            seen += 1
    assert seen, "no sample of the 15 metrics"
    return f"{seen} samples"


def all_expected_metrics_present(base: str) -> str:
    """All 15 metrics are registered, and those of every source that is up have samples."""
    registered = set(_stats(base)["registered_metrics"])
    missing = [metric.name for metric in ALL if metric.name not in registered]
    assert not missing, f"not registered: {', '.join(missing)}"
    found = families(base, "/metrics")
    up = {sample.labels["source"] for sample in found["collector_up"].samples if sample.value == 1}
    always = {
        "node": ("node_cpu_usage", "node_memory_usage", "node_disk_usage", "node_network_io"),
        "deployment": ("deployment_replica_count",),
        "system": ("system_uptime", "system_total_nodes", "system_active_deployments"),
        "betanet": ("betanet_connections", "betanet_packets_processed", "betanet_packets_dropped", "betanet_latency"),
    }
    absent = [name for source in sorted(up) for name in always.get(source, ()) if name not in found]
    assert not absent, f"their source is up, but there are no samples of {', '.join(absent)}"
    here = sum(metric.family in found for metric in ALL)
    return f"{len(ALL)} registered, {here} with samples; sources up: {', '.join(sorted(up))}"


CASES: tuple[Case, ...] = (
    health,
    stats,
    metrics,
    waiting_for_collection,
    aggregated_available,
    buffer_fill,
    labels,
    all_expected_metrics_present,
)
