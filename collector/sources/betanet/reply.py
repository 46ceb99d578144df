"""Parses Betanet's replies to values of metrics. Pure.

    GET /api/v1/metrics         {"packets_processed": 5000, "packets_dropped": 10}
    GET /api/v1/nodes/status    {"active_nodes": 5, "inactive_nodes": 2, "total_nodes": 7}
    GET /api/v1/network/stats   {"bytes_transmitted": 1, "bytes_received": 2, "avg_latency_ms": 45.0,
                                 "peak_throughput": 3}

Replies are not trusted: any bytes result in values, errors, or BetanetError. A missing or invalid field affects only
its own metric.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from shm.errors import FogmetricsError
from shm.safe_repr import shortened, shown

# Each object and list takes up to 200 bytes of memory, even if it is written in two bytes. 50,000 of them, 10 MiB, are
# more than a list of nodes needs within 1 MiB.
_MOST_CONTAINERS = 50_000
# Counts have 64 bits at most. One absurd latency would spoil the histogram's sum forever (2^64 + 45 = 2^64), also after
# restarts: 2^32 ms are 49 days.
_MOST = 2.0**64
_MOST_MS = 2.0**32
# Of an invalid body, in messages; enough to recognise it.
_SHOWN_BYTES = 60


class BetanetError(FogmetricsError):
    """The reply of one endpoint can't be used. The message names its url, the fault and a remedy."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path below the url, and the metric of each field in its reply. All values are numbers ≥ 0."""

    path: str
    metric_of_field: Mapping[str, str]


ENDPOINTS = (
    Endpoint(
        "/api/v1/metrics",
        {
            "packets_processed": "betanet_packets_processed",
            "packets_dropped": "betanet_packets_dropped",
        },
    ),
    Endpoint("/api/v1/nodes/status", {"active_nodes": "betanet_connections"}),
    Endpoint("/api/v1/network/stats", {"avg_latency_ms": "betanet_latency"}),
)


@dataclass(frozen=True, slots=True)
class Reading:
    """The reply of one endpoint: a value for each metric, and a sentence for each fault.

    ``answered``: it replied with a JSON object, whatever its fields.
    """

    answered: bool
    values: Mapping[str, float] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


def read_reply(body: bytes, endpoint: Endpoint, where: str) -> Reading:
    """Parse the body of a reply; ``where`` is the url, for messages. Raises BetanetError."""
    document = parse_object(body, where)
    values: dict[str, float] = {}
    errors: list[str] = []
    for name, metric in endpoint.metric_of_field.items():
        if name not in document:
            errors.append(f"{where} answered without the field {name!r}; check that url is Betanet's")
            continue
        value = number(document[name])
        if value is None:
            errors.append(f"{where} answered {name} = {shown(document[name])}; it must be a number, 0 or more")
        elif value > (most := _MOST_MS if name.endswith("_ms") else _MOST):
            errors.append(f"{where} answered {name} = {shown(document[name])}; it must be a number, at most {most:.0f}")
        else:
            values[metric] = value
    return Reading(True, values, tuple(errors))


def parse_object(body: bytes, where: str) -> dict[str, Any]:
    """Parse ``body`` as a JSON object. Raises BetanetError."""
    if body.count(b"{") + body.count(b"[") > _MOST_CONTAINERS:
        raise BetanetError(f"{where} answered JSON of more than {_MOST_CONTAINERS} objects and lists")
    try:
        document = json.loads(body, parse_constant=_reject)
    except RecursionError:
        raise BetanetError(f"{where} answered JSON that is nested too deep") from None
    except ValueError as error:  # not JSON, not Unicode, NaN, or an integer of more digits than Python reads
        raise BetanetError(
            f"{where} answered invalid JSON ({shortened(str(error))}): {shown(body[:_SHOWN_BYTES])}"
        ) from None
    if not isinstance(document, dict):
        raise BetanetError(f"{where} answered {shown(document)}; it must be a JSON object")
    return document


def number(value: object) -> float | None:
    """``value`` as a finite float ≥ 0; None for anything else, true and false included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        converted = float(value)
    except OverflowError:  # an integer beyond 1.8e308
        return None
    # 1e999 is valid JSON and parses to infinity.
    return converted if math.isfinite(converted) and converted >= 0 else None


def _reject(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
