"""The page of a real Caddy by its ready mapping."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.frame.histogram import Observations
from collector.sources.deployment.prometheus_mapping import READY
from tests.collector.sources.deployment.proxies import Asked, Proxy, Site
from tests.programs import find_program, free_port, wait_until
from tests.stand_ins.web import WebServer

pytestmark = pytest.mark.real

_CADDY = """
{{
    admin 127.0.0.1:{admin}
    auto_https off
    servers {{
        metrics
    }}
}}
http://127.0.0.1:{front} {{
    respond /bad "no" 500
    reverse_proxy 127.0.0.1:{good}
}}
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with WebServer(delay_ms=30) as good:
        front, admin = free_port(), free_port()
        (tmp_path / "Caddyfile").write_text(_CADDY.format(front=front, admin=admin, good=good.port))
        command = [find_program("caddy"), "run", "--config", "Caddyfile"]
        with Proxy(command, tmp_path, Site(front, f"http://127.0.0.1:{admin}/metrics")).running() as site:
            yield site


def test_caddy_by_its_ready_mapping(site: Site) -> None:
    site.get("/", 1, 200)
    site.get("/bad", 1, 500)
    asked = Asked(site.url, READY["caddy"])
    # It counts a request when its handlers are done, which may be after its client has the answer.
    wait_until(lambda: "srv0" in asked.after(1.0), 10, "the first requests in the page")
    wait_until(lambda: asked.after(1.0)["srv0"].request_rate == 0.0, 10, "no more requests in the page")
    site.get("/", 7, 200)
    site.get("/bad", 3, 500)
    seen = [asked.after(1.0)["srv0"]]
    while sum(one.request_rate or 0.0 for one in seen) < 10 and len(seen) < 1000:
        seen.append(asked.after(1.0)["srv0"])
    requests = sum(one.request_rate or 0.0 for one in seen)
    errors = sum(one.error_rate or 0.0 for one in seen)
    latencies = [one.latency_ms for one in seen if isinstance(one.latency_ms, Observations)]
    assert (requests, errors) == (10, 3)
    counts = [pair for one in latencies for pair in one.counts]
    assert sum(count for _, count in counts) == 10
    # The server takes 30 ms, which Caddy's buckets tell from the answers that it gives itself.
    assert sum(count for bound, count in counts if bound >= 50.0) >= 7
    assert sum(one.total for one in latencies) >= 7 * 29
