"""A good client: scrapes /metrics, and will have the whole page, right to the last byte."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from dataclasses import dataclass, field

from tests.siege.harness import Violation, require

_SCRAPE_SECONDS = 20.0  # only for hangs


@dataclass(frozen=True)
class Page:
    """What every scrape must hold: these lines of ``load``, in this order, and the exporter's own metrics."""

    lines: list[bytes]

    def check(self, during: str, status: int, body: bytes) -> None:
        require(status == 200, f"a scrape was answered {status} during {during}: {body[:200]!r}")
        found = body.split(b"\n")
        lines = [line for line in found if line.startswith(b"load{")]
        require(lines == self.lines, f"a scrape had {len(lines)} right or wrong lines of {len(self.lines)} in {during}")
        own = found[-1] == b"" and any(line.startswith(b"exporter_ring_fresh{") for line in found)
        require(own, f"a scrape lacked the exporter's own metrics, or its last newline, during {during}")


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """(status, head, body) of the next answer. Raises OSError or IncompleteReadError where there is none."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return status, head, await reader.readexactly(int(lengths[0].partition(b":")[2])) if lengths else b""


@dataclass
class Scraper:
    """Scrapes on new connections, and on one that it keeps alive as a Prometheus server does.

    The kept one may be closed between two scrapes; then the request is repeated, once, on a new one: what Go's HTTP
    client does as well. An answer that has begun must end.
    """

    port: int
    page: Page
    during: str = "nothing"
    done: Counter[str] = field(default_factory=Counter)

    async def on_new_connections(self) -> None:
        while True:
            await self.once()
            await asyncio.sleep(0.02)

    async def once(self) -> None:
        reader, writer = await self._asked(b"connection: close\r\n")
        await self._take(reader)
        writer.close()
        self.done["scrapes on a new connection"] += 1

    async def on_a_kept_connection(self) -> None:
        reader, writer = await self._asked()
        await self._take(reader)
        while True:
            await asyncio.sleep(0.05)
            writer.write(_request())
            if not await self._take(reader, may_be_closed=True):
                writer.close()
                self.done["kept connections that were closed between scrapes"] += 1
                reader, writer = await self._asked()
                await self._take(reader)
            self.done["scrapes on a kept connection"] += 1

    async def _asked(self, headers: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A new connection on which the request is sent."""
        loop = asyncio.get_running_loop()
        try:
            # In a thread: in this loop, among bad clients, the request would follow the connection late.
            sock = await loop.run_in_executor(None, _connected, self.port, _request(headers))
            return await asyncio.open_connection(sock=sock, limit=1 << 24)
        except OSError as error:
            raise Violation(f"a scrape could not ask during {self.during}: {error!r}") from None

    async def _take(self, reader: asyncio.StreamReader, *, may_be_closed: bool = False) -> bool:
        """False when the connection was closed before a byte of the answer, where that may be."""
        during = self.during
        try:
            async with asyncio.timeout(_SCRAPE_SECONDS):
                status, _, body = await answer(reader)
        except TimeoutError:
            raise Violation(f"a scrape hung during {during}: no answer within {_SCRAPE_SECONDS:g} s") from None
        except (OSError, asyncio.IncompleteReadError) as error:
            begun = isinstance(error, asyncio.IncompleteReadError) and error.partial
            if may_be_closed and not begun:
                return False
            raise Violation(f"a scrape was cut during {during}: {error!r:.200}") from None
        self.page.check(during, status, body)
        return True


def _request(headers: bytes = b"") -> bytes:
    return b"GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\n%b\r\n" % headers


def _connected(port: int, request: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", port), timeout=_SCRAPE_SECONDS)
    sock.sendall(request)
    sock.setblocking(False)
    return sock
