"""The exporter's clients in tests: of its application without a socket, and of its server over one."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterable, Iterator

import httpx
from starlette.types import ASGIApp

SECONDS = 20  # only for hangs
REQUEST = b"GET /health HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n"


async def ask(app: ASGIApp, method: str, target: str, headers: Iterable[tuple[str, str]] = ()) -> httpx.Response:
    """The application's answer to one request."""
    request = httpx.Request(method, f"http://localhost{target}", headers=list(headers))
    response = await httpx.ASGITransport(app=app).handle_async_request(request)
    await response.aread()
    return response


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """A connection to the server."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as one:
        yield one


def everything(one: socket.socket) -> bytes:
    """All bytes until the server closes the connection."""
    found = bytearray()
    with contextlib.suppress(ConnectionError):
        while data := one.recv(1 << 20):
            found += data
    return bytes(found)


def answer(one: socket.socket) -> bytes:
    """The next answer, head and body."""
    found = b""
    while not (end := found.find(b"\r\n\r\n") + 4) > 3 or len(found) < end + _length(found[:end]):
        data = one.recv(1 << 20)
        assert data, f"the connection ended after {found!r}"
        found += data
    return found


def _length(head: bytes) -> int:
    found = re.search(rb"\r\ncontent-length: ([0-9]+)\r\n", head)
    assert found is not None, head
    return int(found[1])


def has_ipv6() -> bool:
    """Whether this host has the address ::1."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True
