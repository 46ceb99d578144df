"""A real single-node VictoriaMetrics with a day of samples, merged."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import orjson

from benchmarks.client import Client
from benchmarks.day import METRIC, SERIES, Samples
from benchmarks.harness import program
from benchmarks.peers.promql import QueryApi, queries, selector
from tests.programs import free_port, running

_HOW: Final = "apt-get install victoria-metrics"
_SERIES_AT_ONCE: Final = 100
_MERGING: Final = re.compile(rb"^vm_active_force_merges (\d+)$", re.MULTILINE)


class VictoriaMetrics(QueryApi):
    """Queries VictoriaMetrics like Prometheus, and by functions that return several statistics at once."""

    def forms(self, window: str) -> Mapping[str, Callable[[], object]]:
        asked = queries(window)
        functions = ", ".join(f'"{name}_over_time"' for name in ("avg", "min", "max", "sum"))
        two = (
            f"aggr_over_time(({functions}), {selector(window)})",
            f'quantiles_over_time("stat", 0.5, 0.95, 0.99, {selector(window)})',
        )
        return {
            "seven queries in sequence": lambda: self.in_sequence(asked.values()),
            "`aggr_over_time`, then `quantiles_over_time`": lambda: self.in_sequence(two),
            "the two at once": lambda: self.at_once(two),
            "the two in one `union`": lambda: self.ask(f"union({', '.join(two)})"),
        }


@contextlib.contextmanager
def holding(directory: Path, samples: Samples) -> Iterator[VictoriaMetrics]:
    """Run VictoriaMetrics with merged samples and without its cache of results. Raises Missing."""
    port = free_port()
    command = [program("victoria-metrics", _HOW), f"-storageDataPath={directory / 'victoria'}"]
    command += [f"-httpListenAddr=127.0.0.1:{port}", "-search.latencyOffset=0s", "-loggerLevel=WARN"]
    with running(command, directory / "victoria-metrics.log") as server:
        with Client(port) as client:
            server.wait_until(lambda: client.is_ready("/health"), 30, "VictoriaMetrics to be ready")
            for first in range(0, SERIES, _SERIES_AT_ONCE):
                client.post("/api/v1/import", lines(samples, range(first, first + _SERIES_AT_ONCE)))
            client.get("/internal/force_flush")
            client.get("/internal/force_merge")
            server.wait_until(lambda: not _merging(client), 60, "VictoriaMetrics to merge its samples")
        at = int(samples.timestamps[-1]) + 1
        with contextlib.closing(VictoriaMetrics(port, server.pid, at, nocache="1")) as api:
            yield api


def _merging(client: Client) -> bool:
    return any(int(number) for number in _MERGING.findall(client.get("/metrics")))


def lines(samples: Samples, numbers: range) -> bytes:
    """Those series in the format of /api/v1/import: a JSON line each."""
    stamps_ms = (samples.timestamps * 1000).tolist()
    return b"".join(
        orjson.dumps(
            {
                "metric": {"__name__": METRIC.name, "number": str(number)},
                "values": samples.values[:, number].tolist(),
                "timestamps": stamps_ms,
            },
            option=orjson.OPT_APPEND_NEWLINE,
        )
        for number in numbers
    )
