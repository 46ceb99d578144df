"""Requests go to the addresses that were configured, all at once, and none costs another anything."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from collector.exchange import (
    BrokenOff,
    ExchangeError,
    Late,
    Limits,
    NoConnection,
    NotHttp,
    Refused,
    Reply,
    Request,
    TooLong,
    ask,
    ask_all,
    http_request,
    line_request,
    parse_address,
    prepare,
)
from collector.exchange.answer import HttpAnswer, LineAnswer
from collector.exchange.connection import Connection
from tests.collector import hostile
from tests.programs import free_port, wait_until
from tests.stand_ins.web import WebServer

LIMITS = Limits(timeout_seconds=10.0, max_reply_bytes=1000)
SHORT = Limits(timeout_seconds=0.3, max_reply_bytes=1000, table="[source.x]")


def http(url: str, limits: Limits = LIMITS) -> Request:
    return http_request(parse_address(url, "KEY"), limits)


def line(url: str, limits: Limits = LIMITS) -> Request:
    return line_request(parse_address(url, "KEY"), limits, "show stat\n")


def failure(request: Request) -> ExchangeError:
    with pytest.raises(ExchangeError) as caught:
        ask(request)
    return caught.value


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
        error = failure(http(f"http://joe:p%40ss@localhost:{server.server_port}/a;b?c=d"))
        thread.join()
    assert isinstance(error, Refused)
    assert str(error) == "it answered HTTP 302 Found"
    assert asked == [("/a;b?c=d", "Basic am9lOnBAc3M=")]


def test_an_answer_of_exactly_the_largest_size_is_whole(tmp_path: Path) -> None:
    body = b"x" * LIMITS.max_reply_bytes
    with hostile.server(tmp_path / "s.sock", hostile.says(hostile.http(body))) as url:
        assert ask(http(url)).body == body
    with hostile.server(tmp_path / "t.sock", hostile.says(body)) as url:
        assert ask(line(url)).body == body


def test_a_question_longer_than_a_socket_holds_is_sent_whole(tmp_path: Path) -> None:
    got = bytearray()

    def slow_reader(connection: socket.socket, over: threading.Event) -> None:
        while not got.endswith(b"end"):
            got.extend(connection.recv(100_000))
            over.wait(0.001)
        connection.sendall(hostile.http(b"thanks"))

    body = bytes(range(256)) * 20_000 + b"end"
    with hostile.server(tmp_path / "s.sock", slow_reader) as url:
        request = http_request(parse_address(url, "KEY"), LIMITS, "/", body=body)
        assert ask(request).body == b"thanks"
    assert bytes(got) == request.question


# ---- one that fails ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "kind", "said"),
    [
        (hostile.silent, Late, "no whole answer within 0.3 s ([source.x] request_timeout_seconds)"),
        (hostile.drips(b"HTTP/1.1 200 OK\r\nX: "), Late, "no whole answer within 0.3 s"),
        (hostile.drips(b"HTTP/1.1 200 OK\r\n\r\n"), Late, "no whole answer within 0.3 s"),
        (hostile.says(b"hello"), NotHttp, "its answer is not HTTP"),
        (hostile.says(b""), BrokenOff, "broke off before it began"),
        (hostile.endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536), TooLong, "longer than 1000 bytes"),
    ],
)
def test_what_a_server_does_wrong_is_an_error_of_its_kind(
    behaviour: hostile.Behaviour, kind: type[ExchangeError], said: str, tmp_path: Path
) -> None:
    with hostile.server(tmp_path / "s.sock", behaviour) as url:
        error = failure(http(url, SHORT if kind is Late else LIMITS))
    assert type(error) is kind
    assert said in str(error)


def test_a_connection_that_is_reset_broke_off(tmp_path: Path) -> None:
    def resets(connection: socket.socket, _: threading.Event) -> None:
        connection.recv(1)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")  # and the rest of the question unread: that makes it a reset

    with hostile.server(tmp_path / "s.sock", resets) as url:
        error = failure(http(url))
    assert isinstance(error, BrokenOff)
    assert str(error) == "its answer broke off: Connection reset by peer"


@pytest.mark.parametrize(
    ("url", "said"),
    [("http://127.0.0.1:{}", "Connection refused"), ("unix:///nowhere/{}.sock", "No such file or directory")],
)
def test_nobody_there_is_no_connection(url: str, said: str) -> None:
    error = failure(http(url.format(free_port())))
    assert isinstance(error, NoConnection)
    assert str(error) == said


def test_a_host_whose_name_can_be_none_is_an_error() -> None:
    with pytest.raises(NoConnection, match="can't be the name of a host"):
        ask(http(f"http://{'x' * 70}/"))


def test_an_error_of_ours_is_the_requests_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError("no more")

    monkeypatch.setattr(LineAnswer, "feed", fail)
    behaviours = hostile.says(b"hello"), hostile.says(hostile.http(b"hello"))
    with serving(tmp_path, *behaviours) as (one, other):
        failed, answered = ask_all([line(one), http(other)])
    assert str(failed) == "MemoryError: no more"
    assert answered == Reply(b"hello")


# ---- several at once -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(folder: Path, *behaviours: hostile.Behaviour) -> Iterator[list[str]]:
    """The urls of a server for each of ``behaviours``."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(hostile.server(folder / f"{number}.sock", behaviour))
            for number, behaviour in enumerate(behaviours)
        ]


def later(seconds: float) -> hostile.Behaviour:
    def behave(connection: socket.socket, over: threading.Event) -> None:
        over.wait(seconds)
        hostile.says(hostile.http(b"later"))(connection, over)

    return behave


def test_requests_are_asked_at_the_same_time_and_answered_in_their_order(tmp_path: Path) -> None:
    asked = threading.Barrier(3)

    def together(body: bytes) -> hostile.Behaviour:
        def behave(connection: socket.socket, over: threading.Event) -> None:
            asked.wait(10)  # none is answered before all are asked
            hostile.says(hostile.http(body))(connection, over)

        return behave

    with serving(tmp_path, together(b"a"), together(b"b"), together(b"c")) as urls:
        assert ask_all([http(url) for url in urls]) == [Reply(b"a"), Reply(b"b"), Reply(b"c")]
    assert ask_all([]) == []


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HUGE = Limits(timeout_seconds=1.0, max_reply_bytes=2**40)


@pytest.mark.parametrize(
    "behaviour",
    [
        hostile.silent,
        hostile.drips(b"HTTP/1.1 200 OK\r\nX: "),
        hostile.endless(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65_536),
        hostile.endless(CHUNKED, b"1\r\n \r\n" * 10_000),
        hostile.endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        hostile.says(b"\xff" * 1000),
        hostile.says(b""),
    ],
)
def test_one_that_misbehaves_costs_the_others_nothing(behaviour: hostile.Behaviour, tmp_path: Path) -> None:
    """Whatever it is allowed to send: it takes its turns, and is late in the end, or wrong."""
    with serving(tmp_path, behaviour, later(0.2), later(0.0)) as (bad, slow, good):
        results = ask_all([http(bad, HUGE), http(slow), http(good)])
    assert isinstance(results[0], ExchangeError)
    assert results[1:] == [Reply(b"later"), Reply(b"later")]


def test_a_turn_reads_a_bounded_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[int] = []
    monkeypatch.setattr(LineAnswer, "feed", lambda _, data: pieces.append(len(data)))
    with hostile.server(tmp_path / "s.sock", hostile.says(b"x" * 1_000_000)) as url:
        one = Connection(line(url), time.monotonic())
        wait_until(lambda: one.turn() or sum(pieces) == 1_000_000, 10, "all of it")  # type: ignore[func-returns-value]
        one.close()
    assert max(pieces) <= 65_536


def test_each_request_has_a_time_of_its_own(tmp_path: Path) -> None:
    with serving(tmp_path, hostile.silent, later(0.6), hostile.silent) as (one, two, three):
        results = ask_all([http(one, SHORT), http(two), line(three, Limits(0.1, 1000))])
    assert [type(result) for result in results] == [Late, Reply, Late]
    assert ["0.3 s" in str(results[0]), "0.1 s" in str(results[2])] == [True, True]


def test_nothing_is_left_open_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    nobody = f"http://127.0.0.1:{free_port()}"  # kept for as long as this process lives, by a descriptor
    files = len(os.listdir("/proc/self/fd"))
    with serving(tmp_path, hostile.silent, later(0.0), hostile.says(b"")) as urls:
        requests = [*(http(url, SHORT) for url in urls), http(nobody)]
        ask_all(requests)
        with monkeypatch.context() as patched:
            patched.setattr(Connection, "wake", fail)
            with pytest.raises(KeyboardInterrupt):
                ask_all(requests)
    assert len(os.listdir("/proc/self/fd")) == files


def test_a_connection_that_is_done_waits_for_no_garbage_collector(tmp_path: Path) -> None:
    """It holds a body, perhaps of a MiB; and an idle process collects no garbage for minutes."""
    gc.collect()
    gc.disable()
    try:
        with serving(tmp_path, later(0.0), hostile.silent, hostile.says(b"hello"), hostile.says(b"")) as urls:
            ask_all([http(url, SHORT) for url in urls])
        assert [one for one in gc.get_objects() if isinstance(one, Connection | HttpAnswer)] == []
    finally:
        gc.enable()


# ---- names and their addresses -------------------------------------------------------------------------------


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    def getaddrinfo(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0)) for host in hosts]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_the_next_address_of_a_name_is_tried_when_one_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
    with WebServer(status=200) as server:
        assert ask(http(f"http://two:{server.port}")).body == b"200\n"


def test_the_next_address_of_a_name_is_tried_when_one_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.2", "127.0.0.1")
    with WebServer(status=200) as server, hostile.mute("127.0.0.2", server.port):
        assert ask(http(f"http://three:{server.port}", Limits(3.0, 1000))).body == b"200\n"


def test_the_last_address_that_says_nothing_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.2", "127.0.0.2")
    with hostile.mute("127.0.0.2", port := free_port()):
        assert isinstance(failure(http(f"http://two:{port}", SHORT)), Late)


def test_localhost_is_the_loopback_address_whoever_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "192.0.2.1")
    with WebServer(status=200) as server:
        assert ask(http(f"http://localhost:{server.port}")).body == b"200\n"


def test_a_look_up_that_hangs_is_late_and_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = threading.Event()

    def getaddrinfo(*_: object, **__: object) -> list[Any]:
        over.wait(60)
        raise OSError("the test is over")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        with hostile.server(tmp_path / "s.sock", later(0.2)) as url:
            results = ask_all([http("http://hangs", Limits(1.0, 1000)), http(url), http("http://hangs/too", SHORT)])
    finally:
        over.set()
    assert [type(result) for result in results] == [Late, Reply, Late]


def test_a_name_that_nobody_has_is_no_connection() -> None:
    error = failure(http("http://nobody.invalid"))
    assert isinstance(error, NoConnection | Late)  # Late: where the name's server is not reached
    assert "nobody.invalid" in str(error) or isinstance(error, Late)


def test_only_https_needs_preparation() -> None:
    prepare(parse_address("http://host", "KEY"))
