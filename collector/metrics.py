"""Definitions of the built-in metrics: the daemon's 15, those of the textfile source, and each collector's own."""

from __future__ import annotations

from shm.metric import DEFAULT_BUCKETS_MS, Metric


def counter(name: str, help_text: str, unit: str = "", *labels: str) -> Metric:
    return Metric(name, "counter", help_text, unit, labels)


def gauge(name: str, help_text: str, unit: str = "", *labels: str) -> Metric:
    return Metric(name, "gauge", help_text, unit, labels)


NODE = (
    gauge("node_cpu_usage", "CPU time not idle over the last interval, in percent of all CPUs.", "percent", "node_id"),
    gauge("node_memory_usage", "Memory that is not available to new programs, in percent.", "percent", "node_id"),
    gauge(
        "node_disk_usage",
        "Space used on the watched file system, in percent of what users can have.",
        "percent",
        "node_id",
    ),
    gauge(
        "node_network_io",
        "Bytes received and sent over the last interval, in bytes per second.",
        "bytes per second",
        "node_id",
    ),
)

DEPLOYMENT = (
    gauge("deployment_replica_count", "Replicas that run, in replicas.", "replicas", "deployment_id"),
    gauge(
        "deployment_request_rate",
        "Requests over the last interval, in requests per second.",
        "requests per second",
        "deployment_id",
    ),
    gauge(
        "deployment_error_rate",
        "Failed requests over the last interval, in errors per second.",
        "errors per second",
        "deployment_id",
    ),
    Metric(
        "deployment_latency",
        "histogram",
        "Response time, in milliseconds.",
        "milliseconds",
        ("deployment_id",),
        DEFAULT_BUCKETS_MS,
    ),
)

BETANET = (
    counter("betanet_packets_processed", "Packets that Betanet has processed, in packets.", "packets"),
    counter("betanet_packets_dropped", "Packets that Betanet has dropped, in packets.", "packets"),
    Metric(
        "betanet_latency",
        "histogram",
        "Average network latency as Betanet reports it, in milliseconds.",
        "milliseconds",
        (),
        DEFAULT_BUCKETS_MS,
    ),
    gauge("betanet_connections", "Active Betanet nodes, in connections.", "connections"),
)

SYSTEM = (
    gauge("system_uptime", "Time since the host booted, in seconds.", "seconds"),
    gauge("system_total_nodes", "Distinct node_id in the fresh rings of this host, in nodes.", "nodes"),
    gauge("system_active_deployments", "Deployments with at least one replica, in deployments.", "deployments"),
)

ALL = NODE + DEPLOYMENT + BETANET + SYSTEM

# The textfile source's own metrics, two of them with node_exporter's names.
TEXTFILE_MTIME = gauge(
    "node_textfile_mtime_seconds",
    "When a file was last written, of those that could be read, in Unix seconds.",
    "seconds",
    "file",
)
TEXTFILE_SCRAPE_ERROR = gauge(
    "node_textfile_scrape_error", "1 when the directory or one of its files could not be read, else 0."
)
TEXTFILE_ERROR = gauge(
    "textfile_error",
    "1 when a file, or a part of it, is left out for an error that the log names, else 0.",
    "",
    "file",
)
TEXTFILE = (TEXTFILE_MTIME, TEXTFILE_SCRAPE_ERROR, TEXTFILE_ERROR)


def _own(name: str, kind: str, help_text: str, unit: str, *more_labels: str) -> Metric:
    labels = ("source", *more_labels)
    return Metric(name, kind, help_text, unit, labels, own=True)  # type: ignore[arg-type]  # literals below


UP = _own("collector_up", "gauge", "1 when the last collection of the source succeeded, else 0.", "")
DURATION = _own("collector_duration_seconds", "gauge", "How long the last collection took, in seconds.", "seconds")
LAST_SUCCESS = _own(
    "collector_last_success_timestamp_seconds", "gauge", "When a collection last succeeded, in Unix seconds.", "seconds"
)
ERRORS = _own("collector_errors_total", "counter", "Collections, or parts of them, that failed.", "errors")
TICKS_MISSED = _own(
    "collector_ticks_missed_total", "counter", "Ticks skipped because the one before had not ended.", "ticks"
)
CLOCK_STEPS = _own(
    "collector_clock_steps_total", "counter", "Times that the wall clock was set by more than half a second.", "steps"
)
SERIES_DROPPED = _own(
    "collector_series_dropped_total",
    "counter",
    "Samples dropped because their series would exceed a cardinality limit.",
    "samples",
)
SERIES_LIMITED = _own(
    "collector_series_limited_total",
    "counter",
    "Samples of series beyond a cardinality limit, by metric and what becomes of them.",
    "samples",
    "metric",
    "beyond",
)
SERIES_PRUNED = _own(
    "collector_series_pruned_total",
    "counter",
    "Series that were removed, with their history, to make room for newer ones.",
    "series",
    "metric",
)
CIRCUIT_STATE = _own(
    "collector_circuit_state", "gauge", "Circuit breaker of the source: 0 closed, 1 half-open, 2 open.", ""
)
LAST_SNAPSHOT = _own(
    "collector_last_snapshot_timestamp_seconds",
    "gauge",
    "When the ring's last snapshot on disk was taken, in Unix seconds.",
    "seconds",
)

APPLICATION_PROCESSES = Metric(
    "collector_application_processes",
    "gauge",
    "Processes of the application that live.",
    "",
    ("application",),
    own=True,
)

# Every collector records these in its ring.
OWN = (UP, DURATION, LAST_SUCCESS, ERRORS, TICKS_MISSED, CLOCK_STEPS, SERIES_DROPPED)
# Recorded only by collectors with metrics beyond a limit, a circuit breaker, snapshots, or applications.
OPTIONAL = (SERIES_LIMITED, SERIES_PRUNED, CIRCUIT_STATE, LAST_SNAPSHOT, APPLICATION_PROCESSES)
