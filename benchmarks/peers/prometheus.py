"""A real Prometheus with a day of samples in one fully compacted block."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

import orjson

from benchmarks.client import Client
from benchmarks.day import METRIC, SERIES, Samples
from benchmarks.harness import program
from benchmarks.peers.promql import QueryApi, queries
from tests.programs import free_port, running

_HOW: Final = "apt-get install prometheus"
_BACKFILL_SECONDS: Final = 120


class Prometheus(QueryApi):
    """Queries Prometheus in three ways."""

    def forms(self, window: str) -> Mapping[str, Callable[[], object]]:
        asked = queries(window)
        named = (f'label_replace({query}, "stat", "{stat}", "", "")' for stat, query in asked.items())
        in_one = " or ".join(named)
        return {
            "seven queries in sequence": lambda: self.in_sequence(asked.values()),
            "seven queries at once": lambda: self.at_once(asked.values()),
            "one query with `or`": lambda: self.ask(in_one),
        }


@contextlib.contextmanager
def holding(directory: Path, samples: Samples) -> Iterator[Prometheus]:
    """Run Prometheus, without scrapes. Raises Missing."""
    prometheus, promtool = program("prometheus", _HOW), program("promtool", _HOW)
    tsdb = directory / "tsdb"
    text = directory / "samples.txt"
    write_openmetrics(text, samples)
    # Its widest block: cheaper to ask than the twelve of two hours each that promtool makes otherwise.
    backfill = [promtool, "tsdb", "create-blocks-from", "--max-block-duration=54h", "openmetrics", str(text)]
    backfill.append(str(tsdb))
    done = subprocess.run(backfill, capture_output=True, text=True, timeout=_BACKFILL_SECONDS)
    assert done.returncode == 0, f"promtool made no block of the samples: {done.stderr}"
    text.unlink()
    config = directory / "prometheus.yml"
    config.write_text("scrape_configs: []\n")
    port = free_port()
    command = [prometheus, f"--config.file={config}", f"--storage.tsdb.path={tsdb}"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with running(command, directory / "prometheus.log") as server:
        with Client(port) as client:
            server.wait_until(lambda: client.is_ready("/-/ready"), 30, "Prometheus to be ready")
        with contextlib.closing(Prometheus(port, server.pid, int(samples.timestamps[-1]) + 1)) as api:
            yield api


def write_openmetrics(path: Path, samples: Samples) -> None:
    """Write the samples as promtool reads them, series after series."""
    tails = [f" {stamp}\n" for stamp in samples.timestamps.tolist()]
    with path.open("w") as file:
        file.write(f"# TYPE {METRIC.name} gauge\n")
        for number in range(SERIES):
            head = f'{METRIC.name}{{number="{number}"}} '
            # Formats a column at once; repr of each of six million would take as long as all the rest.
            values = orjson.dumps(samples.values[:, number].tolist())[1:-1].decode().split(",")
            file.write("".join([head + value + tail for value, tail in zip(values, tails, strict=True)]))
        file.write("# EOF\n")
