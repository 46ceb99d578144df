"""Two jobs, as deploy/prometheus.yml has them, at one interval: the real Prometheus, or httpx where there is none."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx

from benchmarks.harness import Missing, program
from tests.programs import free_port, listens, running

_PAGES: Final = ("/metrics", "/metrics/aggregated")
_START_SECONDS: Final = 20.0
_CONFIG: Final = """\
global:
  scrape_interval: {every_ms}ms
  scrape_timeout: {every_ms}ms
scrape_configs:
  - job_name: fogmetrics
    static_configs:
      - targets: ["127.0.0.1:{port}"]
  - job_name: fogmetrics-aggregated
    metrics_path: /metrics/aggregated
    params:
      window: [5m]
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""


@contextlib.contextmanager
def scraping(port: int, every_seconds: float, directory: Path) -> Iterator[Missing | None]:
    """Scrape while the block runs. What is given is what was missing for it, if anything."""
    try:
        found = program("prometheus", "apt-get install prometheus")
    except Missing as missing:
        with _by_httpx(f"http://127.0.0.1:{port}", every_seconds):
            yield missing
        return
    directory.mkdir(exist_ok=True)
    config = directory / "prometheus.yml"
    config.write_text(_CONFIG.format(every_ms=round(1000 * every_seconds), port=port))
    own_port = free_port()
    command = [
        found,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{own_port}",
    ]
    with running(command, directory / "prometheus.log") as prometheus:
        prometheus.wait_until(lambda: listens(own_port), _START_SECONDS, "Prometheus")
        yield None


@contextlib.contextmanager
def _by_httpx(url: str, every_seconds: float) -> Iterator[None]:
    over = threading.Event()

    def scrape() -> None:
        with httpx.Client(trust_env=False, timeout=every_seconds) as client:
            while not over.wait(every_seconds):
                for page in _PAGES:
                    with contextlib.suppress(httpx.TransportError):
                        client.get(url + page)

    thread = threading.Thread(target=scrape)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
