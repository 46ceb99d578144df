"""Clients that behave badly, each a coroutine that goes on until it is cancelled. Loopback only."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final

from tests.siege.bad_requests import QUERIES, RAW

HEALTH: Final = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
PAGE: Final = b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"
SILENT: Final = 1000
_IO_SECONDS: Final = 5.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Site:
    """Who is attacked, with what randomness, and what was done so far."""

    port: int
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def connected(self, *, receive_bytes: int = 0) -> AsyncIterator[Streams]:
        """A connection; whatever the other side does to it ends the block without a word."""
        self.done["connections of bad clients"] += 1
        with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError):
            # A small limit: what is not asked for stays in the kernel, and soon with the exporter.
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1024)
            try:
                if receive_bytes:
                    _socket(writer).setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
                yield reader, writer
            finally:
                writer.transport.abort()


def _socket(writer: asyncio.StreamWriter) -> socket.socket:
    found: socket.socket = writer.get_extra_info("socket")
    return found


async def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    async with asyncio.timeout(_IO_SECONDS):
        writer.write(data)
        await writer.drain()


async def everything(reader: asyncio.StreamReader, seconds: float = _IO_SECONDS) -> bytes:
    """All that comes until the other side closes, or until that time is over."""
    found = bytearray()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(seconds):
            while data := await reader.read(1 << 16):
                found += data
    return bytes(found)


# ---- who asks for nothing, or slowly ------------------------------------------------------------------------------


async def silent(site: Site) -> None:
    """A thousand connections that say nothing; those that were closed come again."""
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(SILENT):
            await stack.enter_async_context(site.connected())
        while True:
            await asyncio.gather(*[_silent_one(site) for _ in range(50)])


async def _silent_one(site: Site) -> None:
    async with site.connected() as (reader, _):
        await everything(reader, 0.05)


async def slow_writer(site: Site) -> None:
    async with site.connected() as (_, writer):
        for i in range(len(PAGE) - 1):
            await send(writer, PAGE[i : i + 1])
            await asyncio.sleep(0.1)


async def slow_reader(site: Site) -> None:
    async with site.connected(receive_bytes=4096) as (reader, writer):
        await send(writer, PAGE * 10)
        while await reader.read(100):
            await asyncio.sleep(0.02)


async def never_reader(site: Site) -> None:
    async with site.connected(receive_bytes=4096) as (_, writer):
        await send(writer, PAGE * 20)
        await asyncio.sleep(3)


# ---- who sends too much --------------------------------------------------------------------------------------------


async def huge_request(site: Site) -> None:
    beginning = site.random.choice([
        b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nlong: ",
        b"GET /metrics?name[]=",
        b"POST /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 99999999999\r\n\r\n",
        b"POST /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\nlong: ",
    ])  # fmt: skip
    async with site.connected() as (_, writer):
        await send(writer, beginning)
        for _ in range(64):
            await send(writer, b"x" * 65_536)


async def pipeline(site: Site) -> None:
    async with site.connected() as (reader, writer):
        count = site.random.choice([10, 60, 5000])
        site.done["pipelined requests"] += count
        await send(writer, site.random.choice([HEALTH, PAGE, HEALTH + PAGE]) * count)
        await everything(reader, 1.0)


# ---- who does not speak HTTP ---------------------------------------------------------------------------------------


async def garbage(site: Site) -> None:
    """Random bytes, a request with some of its bytes changed, or either behind a good request."""
    text = bytearray(site.random.choice([HEALTH, PAGE, site.random.choice(RAW).sent[:5000]]))
    if site.random.random() < 0.5:
        for _ in range(site.random.randint(1, 5)):
            text[site.random.randrange(len(text))] = site.random.randrange(256)
    else:
        text = bytearray(site.random.randbytes(site.random.randint(1, 3000)))
    async with site.connected() as (reader, writer):
        await send(writer, HEALTH * site.random.randint(0, 20) + text)
        await everything(reader, 0.2)


async def strange_request(site: Site) -> None:
    async with site.connected() as (reader, writer):
        await send(writer, site.random.choice(RAW).sent)
        await everything(reader, 0.2)


async def bad_query(site: Site) -> None:
    path, _ = site.random.choice(QUERIES)
    async with site.connected() as (reader, writer):
        await send(writer, f"GET {path} HTTP/1.1\r\nconnection: close\r\nhost: 127.0.0.1\r\n\r\n".encode())
        await everything(reader)


# ---- who leaves ----------------------------------------------------------------------------------------------------


async def leaver(site: Site) -> None:
    """Leaves in mid-request, in mid-body or before the answer, by FIN or RST, or closes one half."""
    async with site.connected() as (reader, writer):
        request = site.random.choice([PAGE, b"GET /metrics/aggregated HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"])
        whole = site.random.random() < 0.7
        await send(writer, request if whole else request[: site.random.randrange(len(request))])
        if site.random.random() < 0.3:
            writer.write_eof()
        if whole and site.random.random() < 0.6:
            async with asyncio.timeout(_IO_SECONDS):
                await reader.read(1000)
        if site.random.random() < 0.5:
            _socket(writer).setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        site.done["clients that left"] += 1


# ---- who asks for much ---------------------------------------------------------------------------------------------


async def compressed(site: Site) -> None:
    async with site.connected() as (reader, writer):
        await send(writer, PAGE.replace(b"host", b"connection: close\r\naccept-encoding: gzip\r\nhost"))
        await everything(reader)


async def worker_burst(site: Site) -> None:
    """The pages that are made in the worker, by some who wait and some who don't."""
    async with site.connected() as (reader, writer):
        path = site.random.choice(["/metrics/aggregated", "/metrics/aggregated?window=1h&by=column", "/stats"])
        await send(writer, f"GET {path} HTTP/1.1\r\nconnection: close\r\nhost: 127.0.0.1\r\n\r\n".encode())
        await everything(reader, site.random.choice([0.01, 0.5]))


@dataclass(frozen=True)
class Attack:
    """``clients`` at once do what ``act`` does, over and over. Together fewer than the places are ever busy."""

    act: Callable[[Site], Awaitable[None]]
    clients: int

    def begun(self, site: Site) -> list[Coroutine[Any, Any, None]]:
        return [self._over_and_over(site) for _ in range(self.clients)]

    async def _over_and_over(self, site: Site) -> None:
        while True:
            await self.act(site)
            await asyncio.sleep(0)


ATTACKS: Final = {
    f"{SILENT:,} silent connections": Attack(silent, 1),
    "slow writers": Attack(slow_writer, 100),
    "slow readers": Attack(slow_reader, 8),
    "clients that read nothing": Attack(never_reader, 12),
    "requests without end": Attack(huge_request, 4),
    "pipelines": Attack(pipeline, 3),
    "garbage": Attack(garbage, 6),
    "strange requests": Attack(strange_request, 4),
    "bad queries": Attack(bad_query, 3),
    "clients that leave": Attack(leaver, 4),
    "compressed pages": Attack(compressed, 2),
    "pages of the worker": Attack(worker_burst, 8),
}
