"""An exchange goes to the address that was configured, and nowhere else."""

from __future__ import annotations

import socket
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from collector.sources.deployment.exchange import Address, ExchangeError, Limits, ask_http, ask_line, parse_address
from shm.errors import ConfigurationError
from tests.collector.sources.deployment import hostile
from tests.programs import free_port
from tests.stand_ins.web import WebServer

LIMITS = Limits(timeout_seconds=10.0, max_reply_bytes=1000)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("unix:///run/a.sock", Address("unix:///run/a.sock", "/run/a.sock")),
        ("UNIX:///run/what?is#this.sock", Address("UNIX:///run/what?is#this.sock", "/run/what?is#this.sock")),
        ("http://host", Address("http://host", "", "host", 80, "/")),
        ("http://host:8080/stats;csv", Address("http://host:8080/stats;csv", "", "host", 8080, "/stats;csv")),
        ("http://[::1]:9/a?b=c", Address("http://[::1]:9/a?b=c", "", "::1", 9, "/a?b=c")),
        ("http://joe:p%40ss@host/", Address("http://host/", "", "host", 80, "/", "joe", "p@ss")),
    ],
)
def test_an_address_is_read_and_shown_without_its_password(url: str, address: Address) -> None:
    assert parse_address(url, "KEY") == address
    assert "p@ss" not in repr(address)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "/run/a.sock",
        "unix:run/a.sock",
        "unix://run/a.sock",
        "unix://",
        "http://",
        "http:///stats",
        "https://host",
        "ftp://host",
        "http://host:port",
        "http://host:99999",
        "http://[::1",
    ],
)
def test_what_can_be_no_address_is_refused_with_key_value_and_remedy(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_address(url, "KEY")
    for word in ("KEY", repr(url), "give unix:///path/of/the.sock or http://host:port"):
        assert word in str(caught.value)


def test_path_query_and_login_are_sent_and_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(302)
            self.send_header("Location", "/elsewhere")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's word
            return None

    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # nobody is there: asking it would fail otherwise
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        address = parse_address(f"http://joe:p%40ss@localhost:{server.server_port}/a;b?c=d", "KEY")
        with pytest.raises(ExchangeError, match="HTTP 302 Found"):
            ask_http(address, "GET", address.target, LIMITS)
        thread.join()
    assert asked == [("/a;b?c=d", "Basic am9lOnBAc3M=")]


def test_an_answer_of_exactly_the_largest_size_is_whole(tmp_path: Path) -> None:
    body = b"x" * LIMITS.max_reply_bytes
    with hostile.server(tmp_path / "s.sock", hostile.says(hostile.http(body))) as url:
        assert ask_http(parse_address(url, "KEY"), "GET", "/", LIMITS) == body
    with hostile.server(tmp_path / "t.sock", hostile.says(body)) as url:
        assert ask_line(parse_address(url, "KEY"), "show stat\n", LIMITS) == body


def test_the_next_address_of_a_name_is_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with WebServer(status=200) as server:
        ports = free_port(), server.port
        places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: places)
        assert ask_http(parse_address("http://two", "KEY"), "GET", "/", LIMITS) == b"200\n"


def test_a_host_whose_name_can_be_none_is_an_error() -> None:
    with pytest.raises(ExchangeError, match="can't be the name of a host"):
        ask_http(parse_address(f"http://{'x' * 70}/", "KEY"), "GET", "/", LIMITS)
