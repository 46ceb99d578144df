"""Converts Betanet's replies to values of metrics. Pure.

    GET /api/v1/metrics         {"packets_processed": 5000, "packets_dropped": 10}
    GET /api/v1/nodes/status    {"active_nodes": 5, "inactive_nodes": 2, "total_nodes": 7}
    GET /api/v1/network/stats   {"bytes_transmitted": 1, "bytes_received": 2, "avg_latency_ms": 45.0,
                                 "peak_throughput": 3}

Replies are not trusted: any bytes result in values or errors. A missing or invalid field affects only its own metric.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from collector.sources.json_reply import parse_json
from shm.safe_repr import shown

# Counts have 64 bits at most. One absurd latency would spoil the histogram's sum forever (2^64 + 45 = 2^64), also after
# restarts: 2^32 ms are 49 days.
_MOST = 2.0**64
_MOST_MS = 2.0**32

# By path below the url: the metric of each field in the reply. All values are numbers ≥ 0.
ENDPOINTS: Mapping[str, Mapping[str, str]] = {
    "/api/v1/metrics": {
        "packets_processed": "betanet_packets_processed",
        "packets_dropped": "betanet_packets_dropped",
    },
    "/api/v1/nodes/status": {"active_nodes": "betanet_connections"},
    "/api/v1/network/stats": {"avg_latency_ms": "betanet_latency"},
}


@dataclass(frozen=True, slots=True)
class Reading:
    """The reply of one endpoint: a value for each metric, and a sentence for each fault.

    ``answered``: it replied with a JSON object, whatever its fields.
    """

    answered: bool
    values: Mapping[str, float] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


def read_reply(body: bytes, metric_of_field: Mapping[str, str], where: str) -> Reading:
    """Parse the body of a reply; ``where`` is the url, for messages."""
    try:
        document = parse_json(body)
    except ValueError as error:
        return Reading(False, errors=(f"{where}: {error}; check that url is Betanet's",))
    if not isinstance(document, dict):
        return Reading(False, errors=(f"{where} answered {shown(document)}; it must be a JSON object",))
    values: dict[str, float] = {}
    errors: list[str] = []
    for name, metric in metric_of_field.items():
        if name not in document:
            errors.append(f"{where} answered without the field {name!r}; check that url is Betanet's")
            continue
        value = document[name]
        most = _MOST_MS if name.endswith("_ms") else _MOST
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            errors.append(f"{where} answered {name} = {shown(value)}; it must be a number from 0 to {most:.0f}")
        else:
            values[metric] = float(value)
    return Reading(True, values, tuple(errors))
