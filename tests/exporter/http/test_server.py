"""What a client may cost the server, and how the server ends: each promise over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import psutil
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from collector.frame.collector import MetricCollector
from exporter.http import server as module
from exporter.http.negotiation import TIMEOUT_HEADER
from exporter.http.server import BACKLOG, OTHER_FILES, Server, fitting
from exporter.selfmetrics import REFRESH_NS
from exporter.settings import ExporterConfig
from fogmetrics.parent import Parent
from shm.metric import Metric
from tests.exporter.scene import samples_of
from tests.exporter.test_main import exporter, get
from tests.exporter.wire import REQUEST, answer, connected, everything

QUICK = "request_seconds = 0.5\nanswer_seconds = 0.5\n"
LAST = REQUEST.replace(b"host", b"connection: close\r\nhost")
PAGE = b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
HANGS_SECONDS = 60
POST = b"POST /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n"

pytestmark = pytest.mark.anyio  # runs the tests that are coroutines


@contextlib.contextmanager
def large_page(namespace: str) -> Iterator[None]:
    """A ring whose page has 220 KB."""
    with MetricCollector("s", namespace=namespace, capacity=8, max_series=2000) as collector:
        collector.register(Metric("x", "gauge", "X.", "", ("label",)))
        collector.cardinality.max_series_per_metric = 2000
        for i in range(1500):
            collector.record_metric("x", 1.0, {"label": f"{i:0128}"})
        collector.commit()
        yield


def take_pages(one: socket.socket) -> None:
    """Read the rest of 60 pages."""
    found = b""
    while (pages := found.count(b"TTP/1.1 200")) < 60:
        data = one.recv(1 << 20)
        assert data, f"cut after {pages} pages"
        found += data


def established(pid: int) -> int:
    return sum(one.status == "ESTABLISHED" for one in psutil.Process(pid).net_connections("tcp"))


def counted(port: int, page: str, status: int) -> float:
    """How many requests were answered so, once the exporter's own metrics are collected anew."""
    time.sleep(REFRESH_NS / 1e9)
    found = samples_of(get(port, "/metrics?name[]=exporter_requests_total").text)
    return found.get(("exporter_requests_total", (("page", page), ("status", str(status)))), 0.0)


# ---- time ----------------------------------------------------------------------------------------------------


def test_a_request_that_is_not_whole_in_time_ends_its_connection(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path, QUICK) as (_, port), contextlib.ExitStack() as stack:
        for sent, answers in (
            (b"", 0),
            (b"GET", 0),
            (REQUEST[:-2], 0),
            (REQUEST + REQUEST[:9], 1),
            (POST + b"content-length: 9\r\n\r\nhalf", 1),
        ):
            one = stack.enter_context(connected(port))
            one.sendall(sent)
            assert everything(one).count(b"HTTP/1.1 ") == answers, sent


def test_a_request_that_trickles_in_gets_no_more_time(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path, QUICK) as (_, port), connected(port) as one:
        one.sendall(b"GET /")
        with contextlib.suppress(ConnectionError):
            for _ in range(200):
                one.sendall(b"x")
                time.sleep(0.05)
            raise AssertionError("it is still read after 20 times the time of a request")


def test_a_kept_connection_may_wait_longer_than_a_request_but_not_for_ever(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path, QUICK + "keep_alive_seconds = 2.0\n") as (_, port), connected(port) as one:
        for _ in range(2):
            one.sendall(REQUEST)
            assert answer(one).startswith(b"HTTP/1.1 503")
            time.sleep(1)
        assert everything(one) == b""


def test_a_client_that_takes_no_answer_is_closed(namespace: str, tmp_path: Path) -> None:
    with large_page(namespace), exporter(namespace, tmp_path, QUICK) as (program, port):
        with connected(port) as one:
            one.sendall(PAGE * 60)  # 13 MB, more than the kernel buffers
            assert one.recv(1) == b"H"
            program.wait_until(lambda: not established(program.pid), 20, "the connection to be closed")
            assert everything(one).count(b"TTP/1.1 200") < 60
        assert len(get(port, "/metrics").content) > 200_000


# ---- bytes ---------------------------------------------------------------------------------------------------


def test_the_limit_of_a_request_is_exact_whatever_one_read_brings(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path, "max_request_bytes = 1024\n") as (_, port):
        for size in (1023, 1024, 1025, 2000, 4000):
            start = LAST[:-2] + b"long: "
            with connected(port) as one:
                one.sendall(start + b"x" * (size - len(start) - 4) + b"\r\n\r\n")
                found = everything(one)
            assert found.startswith(b"HTTP/1.1 503" if size <= 1024 else b"HTTP/1.1 400"), size
            assert (b"The request is larger than 1024 bytes.\n" in found) == (size > 1024)
        assert counted(port, "none", 400) == 3


@pytest.mark.parametrize(
    "sent", [b"content-length: 100000000\r\n\r\n", b"transfer-encoding: chunked\r\n\r\n0\r\nlong: "]
)
def test_a_body_or_a_trailer_counts_too(namespace: str, tmp_path: Path, sent: bytes) -> None:
    with exporter(namespace, tmp_path) as (program, port), connected(port) as one:
        one.sendall(POST + sent)
        assert answer(one).startswith(b"HTTP/1.1 405")
        with pytest.raises(ConnectionError):
            one.sendall(b"x" * 65_536_000)
        assert "Traceback" not in program.log()


def test_a_body_is_read_over_and_the_next_request_answered(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path, "max_request_bytes = 1024\n") as (_, port), connected(port) as one:
        for _ in range(20):  # more than the limit together
            one.sendall(POST + b"content-length: 100\r\n\r\n" + b"x" * 60)
            assert answer(one).startswith(b"HTTP/1.1 405")
            one.sendall(b"x" * 40 + REQUEST)
            assert answer(one).startswith(b"HTTP/1.1 503")


def test_requests_in_advance_are_answered_up_to_the_limit_in_bytes(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path) as (program, port):
        for _ in range(2):
            with connected(port) as one:
                one.sendall(REQUEST * 200 + LAST)
                assert everything(one).count(b"HTTP/1.1 503") == 201
        with connected(port) as one:
            with contextlib.suppress(ConnectionError):
                one.sendall(REQUEST * 20_000)
            assert everything(one).count(b"HTTP/1.1") < 5000
        assert get(port, "/metrics").status_code == 200
        assert "Traceback" not in program.log()


async def test_headers_that_no_answer_depends_on_are_not_kept_and_lists_are_one() -> None:
    asked: list[Request] = []

    async def page(request: Request) -> Response:
        asked.append(request)
        return PlainTextResponse("page")

    async with serving(page) as (_, port), asking(port, b"") as (reader, writer):
        lines = [b"Accept: a", b"Cookie: b", b"accept: c", b"Accept-Encoding: gzip", *[b"a:"] * 10_000]
        writer.write(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n" + b"\r\n".join([*lines, b"", b""]))
        assert (await page_of(reader)) == b"page"
    [request] = asked
    assert request.headers.items() == [
        ("accept", "a,c"),
        ("accept-encoding", "gzip"),
        ("authorization", ""),
        ("host", "127.0.0.1"),
        (TIMEOUT_HEADER, ""),
    ]


# ---- connections ---------------------------------------------------------------------------------------------


def test_silent_and_idle_connections_make_room_for_a_newcomer(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path, "max_connections = 2\n") as (program, port), contextlib.ExitStack() as stack:
        kept = stack.enter_context(connected(port))
        kept.sendall(REQUEST)
        assert answer(kept).startswith(b"HTTP/1.1 503")
        for sent in (b"", b"GET /metrics HTTP/1.1\r\n") * 20:
            stack.enter_context(connected(port)).sendall(sent)
        assert everything(kept) == b""
        assert get(port, "/metrics").status_code == 200
        said = 'event="too many connections, idle ones are closed" max_connections=2'
        program.wait_until(lambda: said in program.log(), 20, "the closing of idle connections")
        assert program.log().count(said) == 1
        assert established(program.pid) <= 3


def test_an_answer_that_is_not_taken_yet_is_not_cut_for_a_newcomer(namespace: str, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(large_page(namespace))
        _, port = stack.enter_context(exporter(namespace, tmp_path, "max_connections = 2\n"))
        one = stack.enter_context(connected(port))
        one.sendall(PAGE * 60)  # more than the kernel buffers
        assert one.recv(1) == b"H"
        for _ in range(20):
            stack.enter_context(connected(port))
        assert get(port, "/health").status_code == 200
        take_pages(one)


def test_a_request_is_refused_only_where_all_connections_are_busy_with_answers(namespace: str, tmp_path: Path) -> None:
    with large_page(namespace), exporter(namespace, tmp_path, "max_connections = 1\n") as (_, port):
        with connected(port) as one:
            one.sendall(PAGE * 60)
            assert one.recv(1) == b"H"
            refused = get(port, "/health")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.text == "all 1 connections are busy with answers; try again in 1 s\n"
            take_pages(one)
        assert get(port, "/health").status_code == 200
        assert counted(port, "none", 503) == 1


async def test_clients_that_connect_together_while_all_are_busy_each_hear_it() -> None:
    go = asyncio.Event()
    async with serving(held(go), max_connections=8) as (_, port), contextlib.AsyncExitStack() as stack:
        busy = [await stack.enter_async_context(asking(port)) for _ in range(8)]
        new = [await stack.enter_async_context(asking(port, b"")) for _ in range(4)]
        await asyncio.sleep(0.1)
        for _, writer in new:
            writer.write(REQUEST)
        for reader, _ in new:
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        go.set()
        for reader, _ in busy:
            assert await page_of(reader) == b"page"


async def test_the_next_page_is_not_made_before_the_last_one_is_taken() -> None:
    size, made = 10_000_000, 0

    async def page(request: Request) -> Response:
        nonlocal made
        made += 1
        return PlainTextResponse("x" * size)

    async with serving(page) as (_, port), asking(port, REQUEST * 3) as (reader, _):
        await reader.readuntil(b"\r\n\r\n")
        await asyncio.sleep(0.5)
        assert made == 1, "the kernel has not taken all of the first"
        await reader.readexactly(size)
        for _ in range(2):
            assert len(await page_of(reader)) == size
        assert made == 3


@pytest.mark.parametrize(("most", "fit"), [(512, 256), (511, 255), (100, 50), (0, 1)])
def test_connections_fit_the_limit_on_open_files(monkeypatch: pytest.MonkeyPatch, most: int, fit: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (16, BACKLOG + OTHER_FILES + most))
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: None)
    assert fitting(256) == fit


# ---- what is no HTTP -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"NO HTTP\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nhost: 127.0.0.1\r\n\r\n",
        b"GET /metrics HTTP/1.0\r\nhost: 127.0.0.1\r\nhost: y\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\nab",
    ],
)
def test_a_request_that_breaks_http_is_answered_400_counted_and_not_logged(
    namespace: str, tmp_path: Path, sent: bytes
) -> None:
    with exporter(namespace, tmp_path) as (program, port):
        before = len(program.log().splitlines())
        with connected(port) as one:
            one.sendall(REQUEST + sent)
            found = everything(one)
        assert re.findall(rb"HTTP/1.1 ([0-9]+)", found) == [b"503", b"400"]
        assert b"Invalid HTTP request received." in found
        assert counted(port, "none", 400) == 1
        assert len(program.log().splitlines()) == before


def test_nothing_is_read_behind_a_last_request(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path) as (program, port):
        for last in (LAST, b"GET /health HTTP/1.0\r\n\r\n"):
            with connected(port) as one:
                one.sendall(last + b"\r\nNO HTTP" + REQUEST)
                assert everything(one).count(b"HTTP/1.1 ") == 1
        assert "Traceback" not in program.log()


async def test_more_bytes_behind_a_last_request_do_not_spoil_its_answer() -> None:
    go = asyncio.Event()
    async with serving(held(go)) as (_, port), asking(port, LAST) as (reader, writer):
        await asyncio.sleep(0.1)
        writer.write(b"\r\n")
        await asyncio.sleep(0.1)
        go.set()
        assert await page_of(reader) == b"page"


def test_a_wish_for_a_web_socket_is_answered_as_any_request_and_not_logged(namespace: str, tmp_path: Path) -> None:
    upgrade = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nhost"
    with exporter(namespace, tmp_path) as (program, port), connected(port) as one:
        one.sendall(REQUEST.replace(b"host", upgrade))
        assert answer(one).startswith(b"HTTP/1.1 503")
        assert "pip install" not in program.log()
        assert "Unsupported" not in program.log()


# ---- a server in this process --------------------------------------------------------------------------------


Page = Callable[[Request], Awaitable[Response]]


@contextlib.asynccontextmanager
async def serving(page: Page, **keys: float) -> AsyncIterator[tuple[Server, int]]:
    """A server of that page with those keys of [exporter], and its port. At its end it is told to end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with asyncio.timeout(HANGS_SECONDS):
            server = server_of(page, Parent({}), **keys)
            running = asyncio.create_task(server.serve([listening]))
            try:
                while not server.started:
                    await asyncio.sleep(0.01)
                yield server, listening.getsockname()[1]
            finally:
                server.stop()
                await running


def server_of(page: Page, parent: Parent, **keys: float) -> Server:
    app = Starlette(routes=[Route("/{path:path}", page)])
    return Server(app, ExporterConfig(**keys), parent)  # type: ignore[arg-type]


def held(go: asyncio.Event) -> Page:
    """A page that is answered when it may."""

    async def page(request: Request) -> Response:
        await go.wait()
        return PlainTextResponse("page")

    return page


@contextlib.asynccontextmanager
async def asking(port: int, sent: bytes = REQUEST) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on which that was sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=4096)
    writer.write(sent)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def page_of(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return await reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0]))


# ---- the end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_and_its_idle_connections(number: signal.Signals) -> None:
    go = asyncio.Event()
    go.set()
    async with serving(held(go)) as (server, port), asking(port) as (reader, _):
        assert await page_of(reader) == b"page"
        os.kill(os.getpid(), number)
        assert await reader.read() == b""
        assert server.should_exit


async def test_an_answer_under_way_at_the_end_is_finished_and_is_the_last() -> None:
    go = asyncio.Event()
    async with serving(held(go)) as (server, port), asking(port) as (reader, _):
        await asyncio.sleep(0.1)
        server.stop()
        await asyncio.sleep(0.3)
        go.set()
        assert await page_of(reader) == b"page"
        assert await reader.read() == b""


def test_an_answer_that_takes_too_long_does_not_keep_it(namespace: str, tmp_path: Path) -> None:
    with large_page(namespace), exporter(namespace, tmp_path) as (program, port), connected(port) as one:
        one.sendall(PAGE * 60)
        assert one.recv(1) == b"H"
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(30) == 0
        assert program.log().splitlines()[-1].endswith("event=stopped")
        assert "Traceback" not in program.log()


async def test_told_to_end_before_it_began_it_ends() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = server_of(held(asyncio.Event()), Parent({}))
        server.stop()
        await asyncio.wait_for(server.serve([listening]), HANGS_SECONDS)


@pytest.mark.parametrize("tells", [True, False])
async def test_a_supervisord_that_went_unnoticed_is_looked_for(monkeypatch: pytest.MonkeyPatch, tells: bool) -> None:
    """Before the server began, or where the kernel does not announce it."""
    if not tells:
        monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.setattr(module, "LOOK_SECONDS", 3600.0 if tells else 0.01)
    orphan = Parent({"SUPERVISOR_ENABLED": "1"})
    with socket.create_server(("127.0.0.1", 0)) as listening:
        running = asyncio.create_task(server_of(held(asyncio.Event()), orphan).serve([listening]))
        if not tells:
            await asyncio.sleep(0.1)
            assert not running.done()
        orphan.pid += 1
        await asyncio.wait_for(running, HANGS_SECONDS)


def test_without_a_client_it_sleeps(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path) as (program, port):
        get(port, "/metrics")
        time.sleep(0.5)
        before = psutil.Process(program.pid).num_ctx_switches().voluntary
        time.sleep(2)
        assert psutil.Process(program.pid).num_ctx_switches().voluntary - before <= 5
