"""When the service ends, and what happens to those who are being answered then."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable

import pytest

from exporter.http import server
from exporter.http.connection import Handler, Shared
from exporter.http.messages import Request, Response
from exporter.http.places import Places
from exporter.http.server import Service
from exporter.settings import ExporterConfig
from fogmetrics.parent import Parent
from tests.orphans import watched

PAGE = Response(200, (b"page\n",))


def serve(work: Callable[[Service, int], Awaitable[None]], handle: Handler = lambda request: PAGE) -> None:
    """Run ``work`` (service, port) beside a service, which must end after it."""

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            one = Service(Shared(handle, ExporterConfig(), Places(8)), Parent({}))
            running = asyncio.create_task(one.run(listening, 8))
            await work(one, listening.getsockname()[1])
            await asyncio.wait_for(running, 30)

    asyncio.run(run())


async def ask(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
    return reader, writer


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_its_idle_connections(number: signal.Signals) -> None:
    async def work(one: Service, port: int) -> None:
        reader, writer = await ask(port)
        assert (await reader.readuntil(b"page\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        os.kill(os.getpid(), number)
        assert await reader.read() == b""
        writer.close()

    serve(work)


def test_who_is_being_answered_gets_it_and_is_told_that_it_is_the_last() -> None:
    go = asyncio.Event()

    async def slow(request: Request) -> Response:
        await go.wait()
        return PAGE

    async def work(one: Service, port: int) -> None:
        reader, writer = await ask(port)
        await asyncio.sleep(0.1)
        one.stop()
        await asyncio.sleep(0.1)
        go.set()
        assert b"\r\nconnection: close\r\n\r\npage\n" in await reader.read()
        writer.close()

    serve(work, slow)


def test_an_answer_that_takes_too_long_does_not_keep_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_FINISH_SECONDS", 0.2)
    left = asyncio.Event()

    async def endless(request: Request) -> Response:
        try:
            await asyncio.sleep(60)
        finally:
            left.set()
        return PAGE

    async def work(one: Service, port: int) -> None:
        reader, writer = await ask(port)
        await asyncio.sleep(0.1)
        one.stop()
        assert await reader.read() == b""
        await asyncio.wait_for(left.wait(), 10)
        writer.close()

    serve(work, endless)


def test_told_to_end_before_it_began_it_ends() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            one = Service(Shared(lambda request: PAGE, ExporterConfig(), Places(8)), Parent({}))
            one.stop()
            await asyncio.wait_for(one.run(listening, 8), 30)

    asyncio.run(run())


_SERVICE = """
import asyncio, socket
from exporter.http import server as service
from exporter.http.connection import Shared
from exporter.http.places import Places
from exporter.settings import ExporterConfig
from fogmetrics.parent import Parent
service.LOOK_SECONDS = 3600.0

async def run():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        one = service.Service(Shared(print, ExporterConfig(), Places(8)), Parent())
        running = asyncio.create_task(one.run(listening, 8))
        await asyncio.sleep(0.05)
        print("serves", running.done(), flush=True)
        await running
        print("ended", flush=True)

asyncio.run(run())
"""


def test_it_ends_at_once_when_its_supervisord_is_gone() -> None:
    with watched(_SERVICE) as (supervisord, output):
        assert output.readline() == "serves False\n"
        supervisord.kill()
        assert output.readline() == "ended\n"


def ends_as_an_orphan() -> None:
    """Fails unless it ends by itself, whose parent is not the supervisord that started it."""
    orphan = Parent({"SUPERVISOR_ENABLED": "1"})
    orphan.pid += 1

    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            one = Service(Shared(lambda request: PAGE, ExporterConfig(), Places(8)), orphan)
            await asyncio.wait_for(one.run(listening, 8), 30)

    asyncio.run(run())


def test_where_nothing_tells_of_its_end_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.01)
    ends_as_an_orphan()


def test_a_supervisord_that_went_before_it_began_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever took its place as our parent lives on: no descriptor would ever tell."""
    monkeypatch.setattr(server, "LOOK_SECONDS", 3600.0)
    ends_as_an_orphan()
