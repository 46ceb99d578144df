"""What Betanet answers, and which of it becomes samples: pure functions from bytes to values.

    GET /api/v1/metrics         {"packets_processed": 5000, "packets_dropped": 10}
    GET /api/v1/nodes/status    {"active_nodes": 5, "inactive_nodes": 2, "total_nodes": 7}
    GET /api/v1/network/stats   {"bytes_transmitted": 1, "bytes_received": 2, "avg_latency_ms": 45.0,
                                 "peak_throughput": 3}

The answer is not trusted: whatever the bytes are, the outcome is values, errors, or BetanetError. A field that is
missing or makes no sense costs that field only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from shm.errors import FogmetricsError
from shm.safe_repr import shortened, shown

# Each object and list takes up to 200 bytes of memory, however few of the answer's. 50,000 of them, 10 MiB, are more
# than a list of nodes needs within 1 MiB.
_MOST_CONTAINERS = 50_000
# Counts are of 64 bits at most. One absurd latency would drown the histogram's sum for good (2^64 + 45 = 2^64), over
# restarts, too: 2^32 ms are 49 days.
_MOST = 2.0**64
_MOST_MS = 2.0**32
# Of a body that is no JSON; enough to recognise it.
_SHOWN_BYTES = 60


class BetanetError(FogmetricsError):
    """One endpoint gave nothing that can be used. The message names its url, what happened and a remedy."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A path below the url, and which metric each field of its answer is. All are numbers ≥ 0."""

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
    """What one endpoint gave: a value for each metric that it knows, a sentence for each thing that was wrong.

    ``answered``: it gave a JSON object, whatever the fields in it.
    """

    answered: bool
    values: Mapping[str, float] = field(default_factory=dict)
    errors: tuple[str, ...] = ()


def read_reply(body: bytes, endpoint: Endpoint, where: str) -> Reading:
    """The Reading of an answer's body; ``where`` is the url, for messages. Raises BetanetError."""
    document = parse_object(body, where)
    values: dict[str, float] = {}
    errors: list[str] = []
    for name, metric in endpoint.metric_of_field.items():
        if name not in document:
            errors.append(f"{where} answered without the field {name!r}; see that url is Betanet's")
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
    """The JSON object that ``body`` holds. Raises BetanetError."""
    if body.count(b"{") + body.count(b"[") > _MOST_CONTAINERS:
        raise BetanetError(f"{where} answered JSON of more than {_MOST_CONTAINERS} objects and lists")
    try:
        document = json.loads(body, parse_constant=_reject)
    except RecursionError:
        raise BetanetError(f"{where} answered JSON that is nested too deep") from None
    except ValueError as error:  # no JSON, no Unicode, NaN, or an integer of more digits than Python reads
        raise BetanetError(
            f"{where} answered no JSON ({shortened(str(error))}): {shown(body[:_SHOWN_BYTES])}"
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
