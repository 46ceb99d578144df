"""Slow but honest clients in a crowd of kept-alive ones that would all like their places.

A patient client asks for pages until the kernel holds no more of them: the end of its last answer is with the exporter
still, though every request is answered. From then on a crowd comes, is answered and kept alive, and comes again when it
is closed. The patient ones have rested longest, so whoever closes the longest idle without looking whether it has taken
its answer closes them first. Then they take their pages, and each must be whole.

When a client is that far, and when the crowd has had its effect, is seen, not waited for: in the kernel's own count
of what a connection holds, and in connections of the crowd that are closed long before they were idle for too long.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.siege.bad_clients import HEALTH, PAGE, Site, send
from tests.siege.harness import Violation
from tests.siege.scraped import ANSWER_SECONDS, KEEP_ALIVE_SECONDS, PLACES
from tests.siege.scraper import Page, answer

_RECEIVE_BYTES: Final = (16_384, 65_536, 131_072, 262_144)  # one a client, so that they are full at different bytes
_STILL_SECONDS: Final = 0.2  # without a byte more in the kernel: it is full, or the exporter is slow
_SIZES_DIFFER_BYTES: Final = 4096  # the most by which a page may differ from another, in the exporter's own metrics
_TAKE_SECONDS: Final = 20.0  # only for hangs


@dataclass
class Patience:
    """What is needed for a round, and how many there are at most."""

    site: Site
    page: Page
    page_bytes: int
    rounds: int

    async def late_answers(self) -> int:
        """How many pages were taken whole by clients whose place a crowd would have liked; rounds, until there is one.

        Raises Violation where one was cut, or where no round came about.
        """
        for _ in range(self.rounds):
            if taken := await self._round():
                return taken
        raise Violation(f"in {self.rounds} rounds no crowd was ever closed while a client had its answer to take")

    async def _round(self) -> int:
        with contextlib.ExitStack() as stack:
            socks = [stack.enter_context(self._connected(size)) for size in _RECEIVE_BYTES]
            asked = await asyncio.gather(*[self._fill(sock) for sock in socks])
            waiting = [(sock, pages) for sock, pages in zip(socks, asked, strict=True) if pages]
            # What was not seen to be in that state is no evidence; its answers may wait too long, as well.
            deadline = asyncio.get_running_loop().time() + ANSWER_SECONDS / 3
            pressed = bool(waiting) and await _crowd_is_closed_before(deadline, self.site)
            taken = sum(await asyncio.gather(*[self._take(sock, pages) for sock, pages in waiting]))
            return taken if pressed else 0

    def _connected(self, receive_bytes: int) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        sock.connect(("127.0.0.1", self.site.port))
        sock.setblocking(False)
        return sock

    async def _fill(self, sock: socket.socket) -> int:
        """The pages asked for when a part of the last one has no room in the kernel; 0: that point was missed."""
        loop = asyncio.get_running_loop()
        for pages in range(1, 40):
            await loop.sock_sendall(sock, PAGE)
            held, since = 0, loop.time()
            while held < pages * (self.page_bytes - _SIZES_DIFFER_BYTES):
                await asyncio.sleep(0.02)
                if (now := in_kernel(sock)) != held:
                    held, since = now, loop.time()
                elif loop.time() > since + _STILL_SECONDS:
                    begun = held > (pages - 1) * (self.page_bytes + _SIZES_DIFFER_BYTES)
                    return pages if begun else 0
        raise Violation(f"the kernel holds {in_kernel(sock):,} bytes of one connection, and more")

    async def _take(self, sock: socket.socket, pages: int) -> int:
        try:
            reader, writer = await asyncio.open_connection(sock=sock, limit=1 << 16)
            for _ in range(pages):
                async with asyncio.timeout(_TAKE_SECONDS):
                    status, _, body = await answer(reader)
                self.page.check("a crowd, taken late", status, body)
            writer.close()
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Violation(f"an answer was cut that its client still took: {error!r:.200}") from None
        return pages


async def _crowd_is_closed_before(deadline: float, site: Site) -> bool:
    """Whether one of a crowd was closed by then, though it was answered and not idle for long.

    They are more connections than places, each kept alive; those that are closed come again.
    """
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    async def over_and_over() -> None:
        while True:
            async with site.connected() as (reader, writer):
                asked = loop.time()
                await send(writer, HEALTH)
                found = await reader.read(1)
                while found and await reader.read(1 << 16):
                    pass
                if found and loop.time() < asked + KEEP_ALIVE_SECONDS / 2:
                    closed.set()
            await asyncio.sleep(0.01)

    tasks = [asyncio.create_task(over_and_over()) for _ in range(PLACES + 10)]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            await closed.wait()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return closed.is_set()


def in_kernel(client: socket.socket) -> int:
    """The bytes on their way to that client, sent by its peer and not taken yet; both are on this host.

    ``/proc/net/tcp`` has a line a socket, of columns ``sl local_address rem_address st tx_queue:rx_queue ...`` in hex
    (https://www.kernel.org/doc/html/latest/networking/proc_net_tcp.html): what the peer's has to send, and what the
    client's has received.
    """
    ours, theirs = (f"0100007F:{address[1]:04X}" for address in (client.getsockname(), client.getpeername()))
    found = 0
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split(None, 5)
        to_send, _, received = fields[4].partition(":")
        if (fields[1], fields[2]) == (theirs, ours):
            found += int(to_send, 16)
        elif (fields[1], fields[2]) == (ours, theirs):
            found += int(received, 16)
    return found
