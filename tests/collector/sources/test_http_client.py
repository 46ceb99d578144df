"""HttpClient sends requests where the configuration says, within one deadline, and none costs another anything."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collector.sources.http_client import HttpClient
from collector.sources.target import Limits, NoReply, parse_address
from shm.errors import ConfigurationError
from tests.collector import hostile
from tests.collector.served import Request, served
from tests.programs import free_port, wait_until
from tests.stand_ins.web import WebServer

LIMITS = Limits(10.0, 1000, "[source.x]")
SHORT = Limits(0.3, 1000, "[source.x]")
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MIB = 2**20


class Asked:
    """A client of the server at ``url``, and the url that it asks."""

    def __init__(self, url: str, limits: Limits = LIMITS) -> None:
        address = parse_address(url, "KEY")
        self.url = address.url
        self.client = HttpClient(address, limits)

    def get(self) -> bytes:
        return self.client.exchange(self.url).reply()

    def error(self) -> NoReply:
        with pytest.raises(NoReply) as caught:
            self.get()
        return caught.value


# ---- what is sent --------------------------------------------------------------------------------------------


def test_path_query_and_login_are_sent_and_no_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")  # nobody listens there: asking it would fail
    with served(lambda _: hostile.http(b"hello")) as server:
        host = server.url.removeprefix("http://")
        assert Asked(f"http://joe:p%40ss@{host}/a;b?c=d|e").get() == b"hello"
    headers = {
        "Host": host,
        "User-Agent": "fogmetrics",
        "Accept-Encoding": "identity",
        "Authorization": "Basic am9lOnBAc3M=",
    }
    assert server.requests == [Request("GET", "/a;b?c=d|e", headers, b"")]


def test_headers_and_a_body_are_sent_with_the_request() -> None:
    with served(lambda _: hostile.http(b"hello")) as server:
        one = Asked(server.url.replace("//", "//joe:x@"))
        one.client.exchange(f"{one.url}/v1", headers={"Authorization": "Bearer token"}, body=b"<x/>").reply()
    [request] = server.requests
    assert (request.method, request.target, request.body) == ("POST", "/v1", b"<x/>")
    assert request.headers["Authorization"] == "Bearer token"


def test_a_body_longer_than_a_socket_holds_is_sent_whole(tmp_path: Path) -> None:
    got = bytearray()

    def slow_reader(connection: socket.socket, over: threading.Event) -> None:
        while not got.endswith(b"end"):
            got.extend(connection.recv(100_000))
            over.wait(0.001)
        connection.sendall(hostile.http(b"thanks"))

    body = bytes(range(256)) * 20_000 + b"end"
    with hostile.server(tmp_path / "s.sock", slow_reader) as url:
        one = Asked(url)
        assert one.client.exchange(one.url, body=body).reply() == b"thanks"
    assert bytes(got).endswith(b"\r\n\r\n" + body)


def test_redirects_are_not_followed_and_cookies_not_kept() -> None:
    redirect = hostile.http(b"", "302 Found\r\nLocation: /elsewhere\r\nSet-Cookie: a=b")
    answers = iter([redirect, hostile.http(b"hello")])
    with served(lambda _: next(answers)) as server:
        one = Asked(server.url)
        error = one.error()
        assert (str(error), error.status) == (
            "it answered HTTP 302 Found, a redirect to '/elsewhere', which is not followed", 302
        )  # fmt: skip
        assert one.get() == b"hello"
    assert server.targets == ["/", "/"]
    assert all("Cookie" not in request.headers for request in server.requests)


def test_a_host_that_can_be_none_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="can't be used"):
        Asked("http://\u2603.example/")


# ---- the connection ------------------------------------------------------------------------------------------


def test_the_connection_is_kept_between_requests() -> None:
    with served(lambda _: hostile.http(b"hello")) as server:
        one = Asked(server.url)
        assert [one.get() for _ in range(5)] == [b"hello"] * 5
    assert server.connections == 1


def answers_once(then: Callable[[socket.socket], None], connections: list[int]) -> hostile.Behaviour:
    """Answers the first request of a connection; at the next one on the first connection does ``then``."""

    def behave(connection: socket.socket, over: threading.Event) -> None:
        connections.append(connection.fileno())
        connection.recv(65_536)
        connection.sendall(hostile.http(b"hello"))
        if len(connections) == 1:
            then(connection)

    return behave


@pytest.mark.parametrize(
    "then",
    [lambda _: None, lambda connection: connection.recv(65_536), lambda connection: connection.recv(1)],
    ids=["closed before the request", "closed after it", "reset"],
)
def test_a_kept_connection_that_the_server_closed_is_no_failure(
    then: Callable[[socket.socket], None], tmp_path: Path
) -> None:
    connections: list[int] = []
    with hostile.server(tmp_path / "s.sock", answers_once(then, connections)) as url:
        one = Asked(url)
        assert [one.get(), one.get()] == [b"hello", b"hello"]
    assert len(connections) == 2


def test_a_request_on_a_new_connection_is_not_sent_again(tmp_path: Path) -> None:
    connections: list[int] = []

    def hangs_up(connection: socket.socket, over: threading.Event) -> None:
        connections.append(connection.fileno())
        connection.recv(65_536)

    with hostile.server(tmp_path / "s.sock", hangs_up) as url:
        Asked(url).error()
    assert len(connections) == 1


# ---- replies -------------------------------------------------------------------------------------------------

WHOLE = {
    "length": OK + b"Content-Length: 5\r\n\r\nhello",
    "chunks": OK + b"Transfer-Encoding: Chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nX: y\r\n\r\n",
    "the end": OK + b"\r\nhello",
    "the end of HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nhello",
    "hints before it": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 3 + OK + b"Content-Length: 5\r\n\r\nhello",
    "identity": OK + b"Content-Encoding: Identity \r\nContent-Length: 5\r\n\r\nhello",
    "900 cookies": OK + b"Set-Cookie: c=%s\r\n" % (b"x" * 60) * 900 + b"Content-Length: 5\r\n\r\nhello",
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_reply_is_read(name: str, tmp_path: Path) -> None:
    with hostile.server(tmp_path / "s.sock", hostile.says(WHOLE[name])) as url:
        assert Asked(url).get() == b"hello"


def test_a_body_of_exactly_the_largest_size_is_read(tmp_path: Path) -> None:
    with hostile.server(tmp_path / "s.sock", hostile.says(hostile.http(b"x" * 1000))) as url:
        assert Asked(url).get() == b"x" * 1000
    with hostile.server(tmp_path / "t.sock", hostile.says(hostile.http(b"x" * 1001))) as url:
        assert str(Asked(url).error()) == "its answer is longer than 1000 bytes ([source.x] max_reply_bytes)"


BROKEN = "its answer broke off"
LATE = "no whole answer within 0.3 s ([source.x] request_timeout_seconds)"


@pytest.mark.parametrize(
    ("behaviour", "said"),
    [
        (hostile.silent, LATE),
        (hostile.drips(OK + b"X: "), LATE),
        (hostile.drips(OK + b"\r\n"), LATE),
        (hostile.drips(CHUNKED, b"1\r\n \r\n"), LATE),
        (hostile.endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000), LATE),
        (hostile.endless(CHUNKED + b"0\r\n", b"X: y\r\n" * 10_000), BROKEN),
        (hostile.endless(OK + b"\r\n", b"x" * 65_536), "longer than 1000 bytes"),
        (hostile.endless(CHUNKED, b"10000\r\n" + b" " * 65_536 + b"\r\n"), "longer than 1000 bytes"),
        (hostile.endless(OK, b"X: y\r\n" * 10_000), "broke off or is not HTTP"),
        (hostile.endless(OK + b"X: ", b"y" * 65_536), "broke off or is not HTTP"),
        (hostile.says(b""), BROKEN),
        (hostile.says(OK), BROKEN),
        (hostile.says(OK + b"Content-Length: 9\r\n\r\nhello"), BROKEN),
        (hostile.says(CHUNKED + b"9\r\nhello"), BROKEN),
        (hostile.says(CHUNKED + b"5\r\nhello\r\n0\r\n"), BROKEN),
        (hostile.says(b"220 mail.example.org ESMTP\r\n\r\n"), "broke off or is not HTTP"),
        (hostile.says(b"HTTP/1.1 OK 200\r\n\r\n"), "broke off or is not HTTP"),
        (hostile.says(OK + b"Content-Length: -1\r\n\r\n"), "broke off or is not HTTP"),
        (hostile.says(OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"), "broke off or is not HTTP"),
        (hostile.says(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n"), "broke off or is not HTTP"),
        (hostile.says(CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n"), "broke off or is not HTTP"),
        (hostile.says(OK + b"Content-Encoding: gzip\r\n\r\n"), "Content-Encoding 'gzip'; it was asked for identity"),
        (hostile.endless(b"HTTP/1.1 500 Oops\r\n\r\n", b"x"), "it answered HTTP 500 Oops"),
        (hostile.endless(b"HTTP/1.1 201 Created\r\n\r\n", b"x"), "it answered HTTP 201 Created"),
        (hostile.says(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "it answered HTTP 304"),
        (hostile.says(b"HTTP/1.1 101 Switching\r\n\r\n"), BROKEN),
        (hostile.says(b"HTTP/1.1 500 " + b"O" * 60_000 + b"\r\n\r\n"), f"it answered HTTP 500 {'O' * 200}…"),
    ],
)
def test_what_a_server_does_wrong_is_an_error_that_says_what_it_was(
    behaviour: hostile.Behaviour, said: str, tmp_path: Path
) -> None:
    with hostile.server(tmp_path / "s.sock", behaviour) as url:
        error = Asked(url, SHORT if said is LATE else LIMITS).error()
    assert said in str(error)
    assert len(str(error)) < 400


def test_a_connection_that_is_reset_broke_off(tmp_path: Path) -> None:
    def resets(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(1)
        connection.sendall(OK)  # the rest of the request is unread: closing resets the connection

    with hostile.server(tmp_path / "s.sock", resets) as url:
        assert str(Asked(url).error()) == "its answer broke off: Connection reset by peer"


@pytest.mark.parametrize(
    ("url", "said"),
    [("http://127.0.0.1:{}", "Connection refused"), ("unix:///nowhere/{}.sock", "No such file or directory")],
)
def test_where_nobody_listens_there_is_no_connection(url: str, said: str) -> None:
    assert str(Asked(url.format(free_port())).error()) == f"no connection: {said}"


@pytest.mark.parametrize(
    "text",
    [CHUNKED + b"1\r\n \r\n" * 20_000, OK + b"".join(b"X%d:yy\r\n" % i for i in range(12_000))],
    ids=["chunks of a byte", "names"],
)
def test_a_reply_takes_no_more_memory_than_a_few_times_its_bounds(text: bytes, tmp_path: Path) -> None:
    """Chunks and headers are no objects of 50 bytes and more each that are kept."""
    with hostile.server(tmp_path / "s.sock", hostile.says(text)) as url:
        one = Asked(url, Limits(10.0, MIB, "[source.x]"))
        tracemalloc.start()
        one.error()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 3 * MIB


# ---- the deadline --------------------------------------------------------------------------------------------


def once_then(first: hostile.Behaviour, then: hostile.Behaviour) -> hostile.Behaviour:
    connections = iter([first])

    def behave(connection: socket.socket, over: threading.Event) -> None:
        next(connections, then)(connection, over)

    return behave


@pytest.mark.parametrize("first", [hostile.drips(OK + b"X: "), hostile.drips(OK + b"\r\n")], ids=["head", "body"])
def test_a_client_that_gave_up_closes_the_connection_and_can_be_asked_again(
    first: hostile.Behaviour, tmp_path: Path
) -> None:
    """The server goes on when the client has closed the connection, and only then."""
    with hostile.server(tmp_path / "s.sock", once_then(first, hostile.says(hostile.http(b"hello")))) as url:
        one = Asked(url, Limits(0.3, 1000, "[source.x]"))
        assert str(one.error()) == LATE
        patient = Asked(url)
        assert patient.get() == b"hello"
        patient.client.close()  # the server reads one connection at a time, until its client closes it
        assert wait_until(lambda: _or_none(one), 10, "a reply") == b"hello"


def _or_none(one: Asked) -> bytes | None:
    with contextlib.suppress(NoReply):
        return one.get()
    return None


def test_a_request_may_have_less_time_than_the_limit(tmp_path: Path) -> None:
    with hostile.server(tmp_path / "s.sock", hostile.drips(OK + b"X: ")) as url:
        one = Asked(url, Limits(60.0, 1000, "[source.x]"))
        with pytest.raises(NoReply, match="no whole answer within 60 s"):
            one.client.exchange(one.url, timeout_seconds=0.2).reply()


def test_a_name_look_up_that_hangs_is_late_and_costs_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    over, looked_up = threading.Event(), []

    def getaddrinfo(host: object, *_: object, **__: object) -> list[Any]:
        looked_up.append(host)
        over.wait(60)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))]

    with WebServer(status=200) as server:
        one = Asked(f"http://hangs:{server.port}", SHORT)
        threads = threading.active_count()
        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        try:
            assert str(one.error()) == LATE
            for _ in range(9):
                assert str(one.error()) == (
                    "the previous request has not ended: its name look-up or connection hangs"
                )  # fmt: skip
            assert threading.active_count() == threads + 1
            assert looked_up == ["hangs"]
        finally:
            over.set()
        assert wait_until(lambda: _or_none(one), 10, "a reply") == b"200\n"


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    def getaddrinfo(_: object, port: int, *__: object, **___: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in hosts]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_the_next_address_of_a_name_is_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with WebServer(status=200) as server:
        resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
        assert Asked(f"http://two:{server.port}").get() == b"200\n"


def test_the_next_address_of_a_name_is_tried_when_one_is_mute(monkeypatch: pytest.MonkeyPatch) -> None:
    with WebServer(status=200) as server, hostile.mute("127.0.0.2", server.port):
        resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
        assert Asked(f"http://two:{server.port}", Limits(3.0, 1000, "[source.x]")).get() == b"200\n"


def test_addresses_that_are_all_mute_are_late(monkeypatch: pytest.MonkeyPatch) -> None:
    with hostile.mute("127.0.0.2", port := free_port()):
        resolve_to(monkeypatch, "127.0.0.2", "127.0.0.2", "127.0.0.2")
        assert str(Asked(f"http://three:{port}", SHORT).error()) == LATE


def test_a_name_that_nobody_has_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> list[Any]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert str(Asked("http://nobody.invalid").error()) == "no connection: Name or service not known"


def test_nothing_is_left_open_whatever_happens(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"  # kept for as long as this process lives, by a descriptor

    def counts() -> tuple[int, int]:
        return len(os.listdir("/proc/self/fd")), threading.active_count()

    def settled() -> bool:
        """Whether what earlier tests of this process left open has ended."""
        gc.collect()
        before = counts()
        time.sleep(0.3)
        return counts() == before

    wait_until(settled, 10, "the end of earlier tests")
    open_before = counts()
    with contextlib.ExitStack() as stack:
        behaviours = (hostile.silent, *map(hostile.says, (hostile.http(b"hello"), b"")), hostile.drips(OK + b"X: "))
        urls = [
            stack.enter_context(hostile.server(tmp_path / f"{number}.sock", one))
            for number, one in enumerate(behaviours)
        ]
        for url in (*urls, nobody):
            one = Asked(url, SHORT)
            for _ in range(2):
                with contextlib.suppress(NoReply):
                    one.get()
            one.client.close()
    wait_until(lambda: counts() == open_before, 10, "all closed")


# ---- what it costs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "loads"),
    [
        ("node", False),
        ("system", False),
        ("host", False),
        ("textfile", False),
        ("applications", False),
        ("betanet", True),
        ("deployment", True),
        ("deployment by HAProxy's socket", False),
    ],
)
def test_only_sources_that_ask_over_http_load_httpx(source: str, loads: bool, tmp_path: Path) -> None:
    config = tmp_path / "fogmetrics.toml"
    config.write_text(
        f'[source.textfile]\ndirectory = "{tmp_path}"\n[source.host]\nenabled = true\n[source.applications]\n'
        "enabled = true\n"
        + '[source.deployment]\nproviders = ["haproxy"]\nhaproxy_url = "unix:///x"\n'
        * source.endswith("socket")
    )
    code = (
        "import sys; from collector import registry; from fogmetrics import config;"
        f"registry.build({source.split()[0]!r}, config.load({str(config)!r})); print('httpx' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == str(loads)
