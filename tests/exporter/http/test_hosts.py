"""Requests that name another host are refused."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from exporter.http.hosts import own_names, search_domains
from tests.exporter.scene import Scene, get

OWN = socket.gethostname()
SHORT = OWN.partition(".")[0]


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "localhost:", "LOCALHOST:9200", "localhost.", "x.localhost:80", "127.0.0.1", "127.0.0.1:9200",
        "192.0.2.7:80",
        "[::1]", "[::1]:9200", "[fe80::1%25eth0]:9200", OWN, f"{OWN}:9200", f"{OWN.upper()}.", f"{SHORT}.lan:9200",
        "metrics.example.org", "METRICS.example.org:443", "a.internal",
    ],
)  # fmt: skip
def test_this_host_has_these_names(scene: Scene, host: str) -> None:
    exporter = scene.exporter(allowed_hosts=("Metrics.example.org", "*.internal"))
    assert get(exporter, "/metrics", host=host).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "example.org", "localhost.example.org", "127.0.0.1.example.org:9200", "rebind.example.org:9200", "internal",
        "localhost:80:80", "notlocalhost", "[::1", "127.0.0.1@example.org", "a b", f"x{OWN}", f"{OWN}:80:80",
        f"{OWN}.example.org", f"{SHORT}.com", f"{OWN}.lan.example.org", f"x.{OWN}",
    ],
)  # fmt: skip
def test_others_are_misdirected_on_every_page(scene: Scene, host: str) -> None:
    exporter = scene.exporter(allowed_hosts=("*.internal",))
    for path in ("/", "/metrics", "/metrics/aggregated", "/stats", "/health", "/nothing"):
        answer = get(exporter, path, host=host)
        assert (answer.status_code, answer.text) == (
            421,
            f"Host: {host!r} is not a name of this host; add it to [exporter] allowed_hosts if it is\n",
        )
    assert 'exporter_requests_total{page="none",status="421"} 6.0' in get(exporter, "/metrics").text


def test_a_star_allows_every_name(scene: Scene) -> None:
    assert get(scene.exporter(allowed_hosts=("*",)), "/metrics", host="example.org").status_code == 200


def test_the_host_is_known_by_its_name_in_the_domains_in_which_it_looks_names_up(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    file.write_text(
        "# search none.example\nnameserver 192.0.2.1\nsearch Example.org. a.example\noptions ndots:1\nsearch\n"
    )
    names = own_names("Fog-1.example.com", search_domains(file))
    assert {"fog-1.example.com", "fog-1", "fog-1.example.org", "fog-1.a.example", "fog-1.local"} <= set(names)
    assert "fog-1.none.example" not in names
    assert search_domains(tmp_path / "nothing") == []
