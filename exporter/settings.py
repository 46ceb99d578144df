"""The exporter's table: [exporter]."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from exporter.cache import DEFAULT_BYTES
from fogmetrics.durations import MAX_DURATION_NS, Seconds, written
from fogmetrics.settings.reader import key
from fogmetrics.settings.tables import SharedTables
from shm.errors import ConfigurationError

TIMESTAMPS = ("counters", "all", "none")
_HOST_GLOB = re.compile(r"[A-Za-z0-9._*?!\[\]-]+\Z")  # names in other scripts are in Punycode there
_MOST_SECONDS = MAX_DURATION_NS / 10**9


@dataclass(frozen=True, slots=True)
class ExporterConfig:
    """[exporter]"""

    listen: str | tuple[str, ...] = key(
        "127.0.0.1", 'Address to listen on, or several; "0.0.0.0" opens the port to the network.'
    )
    port: int = key(9200, "Port to listen on; 0 takes a free one and logs it.", low=0, high=65535)
    web_config: str = key(
        "", "File with TLS, users and headers, in the format of Prometheus' exporters (exporter-toolkit); empty: none."
    )
    web_enable_lifecycle: bool = key(False, "Whether POST /-/reload rereads the configuration.")
    window: Seconds = key(
        300.0, "Window of /metrics/aggregated where the request names none.", low=0.001, high=_MOST_SECONDS
    )
    max_window: Seconds = key(604_800.0, "Longest window that a request may ask for.", low=0.001, high=_MOST_SECONDS)
    stale_intervals: float = key(
        3.0, "A source is stale when its newest frame is older than this many of its intervals.", low=1, high=1000
    )
    allowed_hosts: tuple[str, ...] = key(
        (),
        "Names of this host in requests (globs), besides localhost, addresses and its own name; others are refused.",
    )
    timestamps: str = key(
        "counters",
        "Samples of /metrics that have the time of their frame: counters (histograms and summaries, too), all, none.",
        choices=TIMESTAMPS,
    )
    gzip_min_bytes: int = key(
        1024, "Smallest page that is compressed for clients that accept gzip.", low=0, high=1_000_000_000
    )
    nice: int = key(
        5,
        "Niceness that the exporter adds to its own, so that collectors come first where processors are scarce.",
        low=0,
        high=19,
    )
    max_connections: int = key(
        256, "Connections kept open; one more closes a resting one, or is answered 503.", low=1, high=100_000
    )
    keep_alive_seconds: Seconds = key(
        75.0, "Time that a connection is kept after an answer without the next request.", low=0.1, high=86_400
    )
    request_seconds: Seconds = key(10.0, "Time that a request may take to arrive.", low=0.1, high=3600)
    answer_seconds: Seconds = key(60.0, "Time that an answer may wait for its client to take it.", low=0.1, high=3600)
    max_request_bytes: int = key(
        65_536, "Longest request, head and body; a longer one is answered 400.", low=1024, high=1_048_576
    )
    cache_bytes: int = key(
        DEFAULT_BYTES,
        "Memory for all that is kept between requests: layouts of pages, and the results of long windows.",
        low=1_048_576,
        high=1 << 36,
    )
    max_jobs: int = key(
        16,
        "Requests for /metrics/aggregated and /stats that wait at once; one more is answered 503.",
        low=1,
        high=1000,
    )


@dataclass(frozen=True)
class ExporterTables(SharedTables):
    """The tables that the exporter reads. Of [metric.NAME] only the names: /stats lists those that match no metric."""

    exporter: ExporterConfig = key(ExporterConfig(), "The HTTP server.")
    metric: Mapping[str, Any] = key({}, "What one metric sets.")


def host_mistakes(config: ExporterTables) -> Iterator[str]:
    """A message for each of [exporter] allowed_hosts that the name in a header Host can't match."""
    for one in config.exporter.allowed_hosts:
        if not _HOST_GLOB.match(one):
            yield (
                f"{config.where('exporter')} allowed_hosts has {one!r}, which matches no name of a host; give names or "
                'globs, without scheme and port, such as "metrics.example.org" or "*.internal"'
            )


def windows_ns(config: ExporterTables) -> tuple[int, int]:
    """[exporter] (window, max_window) in nanoseconds. Raises ConfigurationError."""
    window, most = config.exporter.window, config.exporter.max_window
    if window > most:
        raise ConfigurationError(
            f"{config.where('exporter')} window is {written(window)}, longer than max_window, {written(most)}; "
            "lower the one or raise the other, since requests that name no window would be refused"
        )
    return round(window * 10**9), round(most * 10**9)
