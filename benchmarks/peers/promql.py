"""Queries of the two servers with Prometheus' HTTP API."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType
from urllib.parse import urlencode

import numpy as np

from benchmarks.client import Client
from benchmarks.day import METRIC, SERIES, STATS, Floats

# Written with the window as a range, such as load[5m].
_QUERIES = MappingProxyType(
    {
        "avg": "avg_over_time({})",
        "min": "min_over_time({})",
        "max": "max_over_time({})",
        "sum": "sum_over_time({})",
        "p50": "quantile_over_time(0.5, {})",
        "p95": "quantile_over_time(0.95, {})",
        "p99": "quantile_over_time(0.99, {})",
    }
)


def selector(window: str) -> str:
    return f"{METRIC.name}[{window}]"


def queries(window: str) -> dict[str, str]:
    """The query of each statistic."""
    return {stat: _QUERIES[stat].format(selector(window)) for stat in STATS}


class QueryApi:
    """The API of a server with process id ``pid``, asked about one instant, ``at`` in Unix seconds.

    The instant is one second past the newest sample: no sample lies on either end of a window, which Prometheus 2
    would count at both and others at one.
    """

    def __init__(self, port: int, pid: int, at: int, **parameters: str) -> None:
        self.pid = pid
        self._parameters = {"time": str(at), **parameters}
        self._stack = contextlib.ExitStack()
        self._clients = [self._stack.enter_context(Client(port)) for _ in STATS]
        self._pool = self._stack.enter_context(ThreadPoolExecutor(len(STATS)))

    def ask(self, query: str) -> bytes:
        return self._ask(self._clients[0], query)

    def _ask(self, client: Client, query: str) -> bytes:
        return client.get(f"/api/v1/query?{urlencode({'query': query, **self._parameters})}")

    def in_sequence(self, some: Iterable[str]) -> list[bytes]:
        return [self.ask(query) for query in some]

    def at_once(self, some: Iterable[str]) -> list[bytes]:
        """Send up to seven queries, each on its own connection."""
        return list(self._pool.map(self._ask, self._clients, some))

    def statistics(self, window: str) -> dict[str, Floats]:
        """The results of the seven queries, shape (series,) each."""
        return {stat: _by_series(self.ask(query)) for stat, query in queries(window).items()}

    def close(self) -> None:
        self._stack.close()


def _by_series(answer: bytes) -> Floats:
    values = np.full(SERIES, np.nan)
    for one in json.loads(answer)["data"]["result"]:
        values[int(one["metric"]["number"])] = float(one["value"][1])
    return values
