"""Scrapers in separate processes that request every page and every window as fast as they are answered.

In a benchmark:   with siege(port) as scrapers: ...; scrapers.stop() counts the answers
By itself:        python -m benchmarks.besiege PORT CONNECTIONS   (until the end of its input; then a line of JSON)
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from benchmarks.harness import ROOT

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


@dataclass(slots=True)
class Siege:
    """The scrapers of one siege. ``seconds`` and ``statuses`` are known after ``stop``."""

    processes: list[subprocess.Popen[bytes]]
    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # of each page's answers
    statuses: Counter[str] = field(default_factory=Counter)

    def stop(self) -> None:
        """Stop the scrapers and read their counts."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()
        for process in self.processes:
            assert process.stdout is not None
            told: dict[str, Any] = json.loads(process.stdout.read())
            for page, seconds in told["seconds"].items():
                self.seconds[page] += seconds
            self.statuses.update(told["statuses"])

    @property
    def answers(self) -> int:
        return self.statuses.total()


@contextlib.contextmanager
def siege(port: int) -> Iterator[Siege]:
    """One process of scrapers for each core, with some connections each."""
    command = [sys.executable, "-m", "benchmarks.besiege", str(port), str(CONNECTIONS_EACH)]
    with contextlib.ExitStack() as stack:
        started = []
        for _ in os.sched_getaffinity(0):
            process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            stack.enter_context(process)  # at the end its pipes are closed, and it has ended
            stack.callback(process.kill)
            started.append(process)
        yield Siege(started)


class _Scraper(threading.Thread):
    """Request pages on one connection until the exporter closes it."""

    def __init__(self, port: int, first: int, told: threading.Event) -> None:
        super().__init__(daemon=True)
        self._port, self._told = port, told
        self._pages = itertools.islice(itertools.cycle(PAGES), first, None)
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self.statuses: Counter[str] = Counter()

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
            self.statuses[status] += 1


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.besiege")
    parser.add_argument("port", type=int)
    parser.add_argument("connections", type=int)
    options = parser.parse_args()
    told = threading.Event()
    scrapers = [_Scraper(options.port, number, told) for number in range(options.connections)]
    for scraper in scrapers:
        scraper.start()
    sys.stdin.read()  # until nobody is there any more, or wants no more
    told.set()
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    statuses: Counter[str] = Counter()
    for scraper in scrapers:
        for page, taken in list(scraper.seconds.items()):
            seconds[page] += taken  # an answer that is still under way is not counted
        statuses.update(scraper.statuses)
    print(json.dumps({"seconds": seconds, "statuses": statuses}), flush=True)


if __name__ == "__main__":
    main()
