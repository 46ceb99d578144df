"""Two jobs, as deploy/prometheus.yml has them, at one interval: the real Prometheus, or httpx where there is none."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import httpx

from benchmarks.harness import Missing, program
from tests import http_client
from tests.programs import Program, free_port, running
from tests.prometheus import command

_PAGES: Final = ("/metrics", "/metrics/aggregated")
_START_SECONDS: Final = 30.0


class Scraper(Protocol):
    """Scrapes from its start, but for its pauses. ``missing``: what it would be, if that were installed."""

    missing: Missing | None

    def pause(self) -> None: ...
    def resume(self) -> None: ...


class _Prometheus:
    missing: Missing | None = None

    def __init__(self, running: Program, port: int) -> None:
        self._running = running
        self._up = f"http://127.0.0.1:{port}/api/v1/query?query=sum(up)"

    def pause(self) -> None:
        """Stop it once it scrapes, which it does not in its first five seconds."""
        self._running.wait_until(self._scrapes, _START_SECONDS, "two scraped jobs")
        self._running.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running.process.send_signal(signal.SIGCONT)

    def _scrapes(self) -> bool:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(self._up, timeout=5) as reply:
                found = json.load(reply)["data"]["result"]
        except OSError:
            return False
        return bool(found) and found[0]["value"][1] == str(len(_PAGES))


class _Httpx:
    def __init__(self, port: int, every_seconds: float, missing: Missing) -> None:
        self.missing: Missing | None = missing
        self._url, self._every_seconds = f"http://127.0.0.1:{port}", every_seconds
        self._over, self._scrape = threading.Event(), threading.Event()

    def pause(self) -> None:
        self._scrape.clear()

    def resume(self) -> None:
        self._scrape.set()

    def run(self) -> None:
        with http_client.client(timeout=self._every_seconds) as client:
            while not self._over.wait(self._every_seconds):
                for page in _PAGES if self._scrape.is_set() else ():
                    with contextlib.suppress(httpx.TransportError):
                        client.get(self._url + page)

    def end(self) -> None:
        self._over.set()


@contextlib.contextmanager
def scraping(port: int, every_seconds: float, directory: Path) -> Iterator[Scraper]:
    """Scrape the exporter at ``port`` while the block runs; what Prometheus keeps goes to ``directory``."""
    try:
        found = program("prometheus", "apt-get install prometheus")
    except Missing as missing:
        instead = _Httpx(port, every_seconds, missing)
        thread = threading.Thread(target=instead.run)
        thread.start()
        try:
            yield instead
        finally:
            instead.end()
            thread.join()
        return
    directory.mkdir(exist_ok=True)
    own_port = free_port()
    start = command(found, directory, port, own_port, round(1000 * every_seconds))
    with running(start, directory / "prometheus.log") as prometheus:
        scraper = _Prometheus(prometheus, own_port)
        try:
            yield scraper
        finally:
            scraper.resume()  # a stopped program does not end for SIGTERM
