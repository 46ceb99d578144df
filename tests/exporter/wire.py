"""A connection of the exporter without a socket: bytes in, bytes out."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import httpx

from exporter.http.connection import Connection, Handler, Shared
from exporter.http.places import Places
from exporter.settings import ExporterConfig


class Wire(asyncio.Transport):
    """A transport whose client takes everything at once."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = bytearray()
        self.closed = asyncio.Event()

    def write(self, data: Any) -> None:
        assert not self.closed.is_set()
        self.sent += data

    def writelines(self, parts: Iterable[Any]) -> None:
        self.write(b"".join(parts))

    def close(self) -> None:
        self.closed.set()

    abort = close

    def is_closing(self) -> bool:
        return self.closed.is_set()

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def pause_reading(self) -> None:
        pass

    resume_reading = pause_reading


async def ask(handle: Handler, method: str, target: str, headers: Iterable[tuple[str, str]] = ()) -> httpx.Response:
    """The answer to one request on a connection of its own."""
    shared = Shared(handle, ExporterConfig(), Places(8))
    connection, wire = Connection(shared), Wire()
    connection.connection_made(wire)
    lines = [f"{method} {target} HTTP/1.1", "host: exporter", "connection: close"]
    lines += [f"{name}: {value}" for name, value in headers]
    connection.data_received("\r\n".join([*lines, "", ""]).encode())
    await wire.closed.wait()
    connection.connection_lost(None)
    return read(bytes(wire.sent), method)


def read(sent: bytes, method: str = "GET") -> httpx.Response:
    """A whole answer; fails where its length is not what its head says."""
    head, _, body = sent.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    version, code, _ = status.split(" ", 2)
    assert version == "HTTP/1.1"
    headers = [(name, value) for name, _, value in (line.partition(": ") for line in lines)]
    length = next(int(value) for name, value in headers if name == "content-length")
    assert len(body) == (0 if method == "HEAD" else length)
    return httpx.Response(int(code), headers=headers, content=body)
