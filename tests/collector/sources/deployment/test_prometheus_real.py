"""Pages of real programs: Caddy by its ready mapping, HAProxy's exporter by the mapping that the documentation has.

Traefik and Envoy, of which there is more to ask: test_traefik_real.py, test_envoy_real.py.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.sources.deployment import DeploymentOptions
from collector.sources.deployment.prometheus_mapping import READY, PageMapping, mappings
from collector.sources.deployment.provider import Deployment
from fogmetrics.config import parse
from fogmetrics.settings.reader import Where, read_table
from tests.collector.sources.deployment.proxies import Asked, Site
from tests.docs.markdown import read
from tests.programs import find_program, free_port, listens, running, wait_until
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

_HAPROXY = """
global
  nbthread 1
defaults
  mode http
  retries 0
  timeout connect 5s
  timeout client 10s
  timeout server 10s
frontend front
  bind 127.0.0.1:{front}
  use_backend bad if {{ path /bad }}
  default_backend good
backend good
  server a 127.0.0.1:{good}
  server b 127.0.0.1:{good}
  server c 127.0.0.1:{good} disabled
backend bad
  server a 127.0.0.1:{bad}
frontend prometheus
  bind 127.0.0.1:{admin}
  http-request use-service prometheus-exporter if {{ path /metrics }}
"""


@contextlib.contextmanager
def _site(program: str, config: str, arguments: list[str], folder: Path) -> Iterator[Site]:
    path = find_program(program)
    with WebServer(delay_ms=30) as good, WebServer(status=500) as bad:
        front, admin = free_port(), free_port()
        conf = folder / "conf"
        conf.write_text(config.format(front=front, admin=admin, good=good.port, bad=bad.port))
        # Caddy keeps its own notes at home.
        home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
        with running([path, *arguments, conf], folder / "log", env=home) as running_program:
            running_program.wait_until(lambda: listens(front) and listens(admin), 30, program)
            yield Site(front, f"http://127.0.0.1:{admin}/metrics")


def test_caddy_by_its_ready_mapping(tmp_path: Path) -> None:
    with _site("caddy", _CADDY, ["run", "--adapter", "caddyfile", "--config"], tmp_path) as site:
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
        latencies = [one.latencies for one in seen if one.latencies is not None]
        assert (requests, errors) == (10, 3)
        counts = [pair for one in latencies for pair in one.counts]
        assert sum(count for _, count in counts) == 10
        # The server takes 30 ms, which Caddy's buckets tell from the answers that it gives itself.
        assert sum(count for bound, count in counts if bound >= 50.0) >= 7
        assert sum(one.total for one in latencies) >= 7 * 29


def _documented(name: str) -> PageMapping:
    page = read("docs/configuration.md")
    [example] = [one for one in re.findall(r"```toml\n(.*?)```", page, re.S) if "prometheus.shop]" in one]
    options = parse(example, Path("example.toml")).source["deployment"].options
    where = Where("example.toml", "source.deployment")
    return mappings(read_table(DeploymentOptions, options, where).prometheus)[name]


def test_haproxy_by_the_mapping_of_the_documentation(tmp_path: Path) -> None:
    with _site("haproxy", _HAPROXY, ["-db", "-f"], tmp_path) as site:
        asked = Asked(site.url, _documented("balancer"))
        assert asked.after(0.0) == {"good": Deployment("good", 2.0), "bad": Deployment("bad", 1.0)}
        site.get("/", 7, 200)
        site.get("/bad", 3, 500)
        good = bad = failed = 0.0
        for _ in range(1000):
            found = asked.after(1.0)
            good += found["good"].request_rate or 0.0
            bad += found["bad"].request_rate or 0.0
            failed += found["bad"].error_rate or 0.0
            if (good, bad, failed) == (7, 3, 3):
                break
        assert (good, bad, failed) == (7, 3, 3)
        assert asked.after(1.0)["good"] == Deployment("good", 2.0, 0.0, 0.0)
