"""An exchange goes to the address that was configured, and nowhere else."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from collector.sources.deployment.exchange import Address, ExchangeError, Limits, ask_http, parse_address
from shm.errors import ConfigurationError

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
    ["", "host", "/run/a.sock", "unix:run/a.sock", "unix://run/a.sock", "unix://", "http://", "http:///stats",
     "https://host", "ftp://host", "http://host:port", "http://host:99999", "http://[::1"],
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


def test_a_host_without_an_address_is_an_error() -> None:
    for host in ("no-such-host.invalid", "x" * 70):
        with pytest.raises(ExchangeError):
            ask_http(parse_address(f"http://{host}/", "KEY"), "GET", "/", LIMITS)
