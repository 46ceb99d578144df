"""A real Prometheus that scrapes the daemon through two jobs, as docs/deployment.md sets them up."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from tests import http_client
from tests.programs import find_program, free_port, running, wait_until

_CONFIG = """\
global:
  scrape_interval: {every_ms}ms
  scrape_timeout: {every_ms}ms
scrape_configs:
  - job_name: fogmetrics
    static_configs:
      - targets: ["127.0.0.1:{port}"]
  - job_name: fogmetrics-aggregated
    metrics_path: /metrics/aggregated
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""
JOBS = ("fogmetrics", "fogmetrics-aggregated")


class Prometheus:
    """Its API at ``url``; ``log_path`` is what it prints."""

    def __init__(self, url: str, log_path: Path) -> None:
        self.url = url
        self.log_path = log_path

    def api(self, path: str, **parameters: str) -> Any:
        reply = http_client.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=30).json()
        assert reply["status"] == "success", reply
        return reply["data"]

    def own_metrics(self) -> str:
        return http_client.get(f"{self.url}/metrics", timeout=30).text

    def is_there(self) -> bool:
        try:
            return http_client.get(f"{self.url}/-/ready", timeout=30).status_code == 200
        except httpx.TransportError:
            return False

    def query(self, text: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.api("query", query=text)["result"]
        return found

    def values(self, text: str) -> dict[str, float]:
        """The last result by job."""
        return {one["metric"].get("job", ""): float(one["value"][1]) for one in self.query(text)}

    def last_errors(self) -> dict[str, str]:
        """What went wrong with the last scrape of each job; empty where nothing did."""
        targets = self.api("targets", state="active")["activeTargets"]
        return {target["labels"]["job"]: target["lastError"] for target in targets}

    def is_up(self) -> bool:
        """Whether the last scrape of both jobs succeeded."""
        try:
            return self.values("up") == dict.fromkeys(JOBS, 1.0)
        except (httpx.TransportError, ValueError):
            return False


@contextlib.contextmanager
def scraping(directory: Path, port: int, every_ms: int = 1000, program: str = "") -> Iterator[Prometheus]:
    """A Prometheus that scrapes the exporter at ``port`` of 127.0.0.1 through both jobs, while the block runs.

    ``program``: its path; by default the one that tests find.
    """
    config, log_path, own_port = directory / "prometheus.yml", directory / "prometheus.log", free_port()
    config.write_text(_CONFIG.format(every_ms=every_ms, port=port))
    command = [
        program or find_program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{own_port}",
    ]
    with running(command, log_path):
        found = Prometheus(f"http://127.0.0.1:{own_port}", log_path)
        wait_until(found.is_up, 60, "two scraped jobs")
        yield found
