"""The real HAProxy in front of real servers: the rates are exactly what was sent, once through each of its doors."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from collector.sources.deployment import DeploymentOptions
from collector.sources.deployment.haproxy import HaproxyProvider
from collector.sources.deployment.prometheus_mapping import PageMapping, mappings
from collector.sources.deployment.provider import Deployment, ProviderError
from fogmetrics.config import parse
from fogmetrics.settings.reader import Where, read_table
from tests.collector.sources.deployment.proxies import Asked, Proxy, Site, rates
from tests.collector.sources.deployment.test_providers import LIMITS
from tests.docs.markdown import read
from tests.programs import find_program, free_port, listens, wait_until
from tests.stand_ins.web import WebServer

pytestmark = pytest.mark.real

CONF = """
global
  stats socket {folder}/h.sock mode 600 level user
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
  use_backend dead if {{ path /dead }}
  default_backend good
frontend tcp_front
  mode tcp
  bind 127.0.0.1:{tcp}
  default_backend raw
backend good
  server a 127.0.0.1:{good}
  server b 127.0.0.1:{good}
  server c 127.0.0.1:{good} disabled
backend bad
  server a 127.0.0.1:{bad}
backend dead
  server a 127.0.0.1:{nobody}
backend raw
  mode tcp
  server a 127.0.0.1:{good}
listen stats
  bind 127.0.0.1:{page}
  stats enable
  stats uri /stats
  stats auth joe:s3cret
frontend prometheus
  bind 127.0.0.1:{exporter}
  http-request use-service prometheus-exporter if {{ path /metrics }}
"""


@dataclass
class Haproxy:
    """A HAProxy before a server that answers 200 after 30 ms, one that answers 500, one that is not there, and TCP."""

    front: Site
    tcp: Site
    socket_url: str
    page_url: str

    def settle(self) -> None:
        """Wait until HAProxy has closed all its streams: it counts a request's time when the stream ends."""
        wait_until(lambda: self._streams() == 0, 30, "the end of all streams")

    def _streams(self) -> int:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.socket_url.removeprefix("unix://"))
            client.sendall(b"show stat\n")
            with client.makefile() as answer:
                header = answer.readline().removeprefix("# ").split(",")
                lines = [dict(zip(header, line.split(","), strict=False)) for line in answer]
        return sum(int(line["scur"]) for line in lines if line.get("svname") in ("FRONTEND", "BACKEND"))


@pytest.fixture
def haproxy(tmp_path: Path) -> Iterator[Haproxy]:
    with WebServer(delay_ms=30) as good, WebServer(status=500) as bad:
        ports = {name: free_port() for name in ("front", "tcp", "nobody", "page", "exporter")}
        config = CONF.format(folder=tmp_path, good=good.port, bad=bad.port, **ports)
        (tmp_path / "haproxy.cfg").write_text(config)

        def ready(_: Site) -> bool:
            # Its stats socket gets its name last, after the ports are open.
            return (tmp_path / "h.sock").exists() and listens(ports["tcp"]) and listens(ports["page"])

        command = [find_program("haproxy"), "-db", "-f", "haproxy.cfg"]
        front = Site(ports["front"], f"http://127.0.0.1:{ports['exporter']}/metrics")
        with Proxy(command, tmp_path, front, ready).running():
            page_url = f"http://joe:s3cret@127.0.0.1:{ports['page']}/stats;csv"
            haproxy = Haproxy(front, Site(ports["tcp"], ""), f"unix://{tmp_path}/h.sock", page_url)
            haproxy.settle()
            yield haproxy


@pytest.mark.parametrize("door", ["socket_url", "page_url"])
def test_haproxy_counts_exactly_what_was_sent(haproxy: Haproxy, door: str) -> None:
    now = 0.0
    provider = HaproxyProvider(getattr(haproxy, door), LIMITS, ["stats"], lambda: now)
    assert provider.deployments() == [
        Deployment("good", 2.0, keeps_latency=True),  # the disabled server is no replica
        Deployment("bad", 1.0, keeps_latency=True),
        Deployment("dead", 1.0, keeps_latency=True),
        Deployment("raw", 1.0),
    ]
    haproxy.front.get("/", 7, 200)
    haproxy.front.get("/bad", 3, 500)
    haproxy.front.get("/dead", 2, 503)
    haproxy.tcp.get("/", 4, 200)
    haproxy.settle()

    now = 10.0
    good, bad, dead, raw = provider.deployments()
    assert (good.request_rate, good.error_rate) == (0.7, 0.0)
    assert isinstance(good.latency_ms, float)
    assert good.latency_ms >= 29  # the server takes 30 ms; HAProxy rounds down
    assert (bad.request_rate, bad.error_rate) == (0.3, 0.3)
    assert bad.latency_ms is not None
    # Each of the two counts twice: no connection to the server, and the 503 that HAProxy then gives.
    assert dead == Deployment("dead", 1.0, 0.2, 0.4, None, keeps_latency=True)
    assert raw == Deployment("raw", 1.0, 0.4, 0.0, None, keeps_latency=False)

    now = 20.0
    assert provider.deployments() == [
        Deployment("good", 2.0, 0.0, 0.0, None, True),
        Deployment("bad", 1.0, 0.0, 0.0, None, True),
        Deployment("dead", 1.0, 0.0, 0.0, None, True),
        Deployment("raw", 1.0, 0.0, 0.0, None, False),
    ]


def test_the_page_without_its_csv_ending_or_its_password_is_an_error_with_the_remedy(haproxy: Haproxy) -> None:
    for url, reason in (
        (haproxy.page_url.removesuffix(";csv"), '";csv" at the end'),
        (haproxy.page_url.replace("s3cret", "wr0ng"), "HTTP 401"),
    ):
        with pytest.raises(ProviderError, match=reason) as caught:
            HaproxyProvider(url, LIMITS).deployments()
        assert "s3cret" not in str(caught.value)
        assert "wr0ng" not in str(caught.value)


def _documented(name: str) -> PageMapping:
    page = read("docs/configuration.md")
    [example] = [one for one in re.findall(r"```toml\n(.*?)```", page, re.S) if "prometheus.shop]" in one]
    options = parse(example, Path("example.toml")).source["deployment"].options
    where = Where("example.toml", "source.deployment")
    return mappings(read_table(DeploymentOptions, options, where).prometheus)[name]


def test_its_exporter_is_read_by_the_mapping_of_the_documentation(haproxy: Haproxy) -> None:
    asked = Asked(haproxy.front.url, _documented("balancer"))
    found = asked.after(0.0)
    assert (found["good"], found["bad"]) == (Deployment("good", 2.0), Deployment("bad", 1.0))
    haproxy.front.get("/", 7, 200)
    haproxy.front.get("/bad", 3, 500)
    haproxy.settle()
    found = asked.after(1.0)
    assert rates(found).items() >= {"good": (7.0, 0.0), "bad": (3.0, 3.0), "dead": (0.0, 0.0)}.items()
    assert asked.after(1.0)["good"] == Deployment("good", 2.0, 0.0, 0.0)
