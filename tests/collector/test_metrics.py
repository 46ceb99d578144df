from __future__ import annotations

from collector import metrics


def test_the_fifteen_metrics_are_those_of_the_design() -> None:
    assert [(metric.name, metric.type, metric.unit, metric.label_names) for metric in metrics.ALL] == [
        ("node_cpu_usage", "gauge", "percent", ("node_id",)),
        ("node_memory_usage", "gauge", "percent", ("node_id",)),
        ("node_disk_usage", "gauge", "percent", ("node_id",)),
        ("node_network_io", "gauge", "bytes per second", ("node_id",)),
        ("deployment_replica_count", "gauge", "replicas", ("deployment_id",)),
        ("deployment_request_rate", "gauge", "requests per second", ("deployment_id",)),
        ("deployment_error_rate", "gauge", "errors per second", ("deployment_id",)),
        ("deployment_latency", "histogram", "milliseconds", ("deployment_id",)),
        ("betanet_packets_processed", "counter", "packets", ()),
        ("betanet_packets_dropped", "counter", "packets", ()),
        ("betanet_latency", "histogram", "milliseconds", ()),
        ("betanet_connections", "gauge", "connections", ()),
        ("system_uptime", "gauge", "seconds", ()),
        ("system_total_nodes", "gauge", "nodes", ()),
        ("system_active_deployments", "gauge", "deployments", ()),
    ]


def test_the_daemons_own_metrics_are_marked_and_carry_the_source() -> None:
    own = (*metrics.OWN, *metrics.OPTIONAL)
    assert all(metric.own for metric in own)
    assert {metric.name for metric in own if metric.label_names[0] != "source"} == {
        metrics.APPLICATION_PROCESSES.name  # of one source, and of several applications
    }
    assert not any(metric.own for metric in metrics.ALL)
