"""Scrapers that ask for every page and every window as fast as they are answered, in processes of their own.

In a benchmark:   with siege(port) as scrapers: ...; scrapers.stop() tells what they were answered
By itself:        python -m benchmarks.besiege PORT CONNECTIONS        (until SIGTERM; then one line of JSON)
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.harness import ROOT
from tests.programs import stop

# Every window of docs/http-api.md, every page.
PAGES: Final = (
    "/metrics",
    "/metrics/aggregated",
    "/metrics/aggregated?window=15m",
    "/metrics/aggregated?window=1h",
    "/metrics/aggregated?window=6h",
    "/metrics/aggregated?window=24h",
    "/stats",
    "/health",
)
# More than the exporter computes at once (one) and answers at once (one), and below its limit of waiting jobs.
CONNECTIONS_EACH: Final = 6
_END_SECONDS: Final = 10.0


@dataclass(slots=True)
class Siege:
    """The scrapers of one siege. ``seconds`` and ``statuses`` are known after ``stop``."""

    processes: list[subprocess.Popen[bytes]]
    seconds: dict[str, list[float]] = field(default_factory=dict)  # of each page, what each answer took
    statuses: dict[str, int] = field(default_factory=dict)

    def stop(self) -> None:
        """End them, and take over what they counted."""
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            out, _ = process.communicate(timeout=_END_SECONDS)
            told: dict[str, Any] = json.loads(out)
            for page, seconds in told["seconds"].items():
                self.seconds.setdefault(page, []).extend(seconds)
            for status, count in told["statuses"].items():
                self.statuses[status] = self.statuses.get(status, 0) + count
        self.processes = []

    @property
    def answers(self) -> int:
        return sum(self.statuses.values())


@contextlib.contextmanager
def siege(port: int, processes: int = 0) -> Iterator[Siege]:
    """As many scrapers as the cores allow: a process for each core, with some connections each."""
    number = processes or len(os.sched_getaffinity(0))
    command = [sys.executable, "-m", "benchmarks.besiege", str(port), str(CONNECTIONS_EACH)]
    with contextlib.ExitStack() as stack:
        started = []
        for _ in range(number):
            process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            stack.callback(_end, process)
            started.append(process)
        yield Siege(started)


def _end(process: subprocess.Popen[bytes]) -> None:
    stop(process)
    assert process.stdout is not None
    process.stdout.close()


class _Scraper(threading.Thread):
    """One connection, kept as long as the exporter keeps it."""

    def __init__(self, port: int, first: int, told: threading.Event) -> None:
        super().__init__(daemon=True)
        self._port, self._told = port, told
        self._pages = itertools.islice(itertools.cycle(PAGES), first, None)
        self.seconds: dict[str, list[float]] = {page: [] for page in PAGES}
        self.statuses: dict[str, int] = {}

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._told.is_set():
            page = next(self._pages)
            begun = time.monotonic()
            try:
                connection.request("GET", page)
                reply = connection.getresponse()
                reply.read()
                status = str(reply.status)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                status = type(error).__name__
            if status == "200":
                self.seconds[page].append(time.monotonic() - begun)
            self.statuses[status] = self.statuses.get(status, 0) + 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.besiege")
    parser.add_argument("port", type=int)
    parser.add_argument("connections", type=int)
    options = parser.parse_args()
    told = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: told.set())
    scrapers = [_Scraper(options.port, number, told) for number in range(options.connections)]
    for scraper in scrapers:
        scraper.start()
    parent = os.getppid()
    while not told.wait(0.5) and os.getppid() == parent:
        pass
    seconds: dict[str, list[float]] = {page: [] for page in PAGES}
    statuses: dict[str, int] = {}
    for scraper in scrapers:
        for page, taken in scraper.seconds.items():
            seconds[page] += taken  # an answer that is still under way is not counted
        for status, count in scraper.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    print(json.dumps({"seconds": seconds, "statuses": statuses}), flush=True)


if __name__ == "__main__":
    main()
