"""Service: accepts connections until it is told to end, or supervisord has ended; sleeps while nothing happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from typing import Final

from exporter.http.connection import Connection, Shared
from fogmetrics.parent import Parent

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0  # whether supervisord still lives, where nothing wakes us when it ends
_FINISH_SECONDS: Final = 2.0  # for answers under way when it is told to end


class Service:
    """Serves until :meth:`stop`, SIGTERM or SIGINT, or the end of ``parent``."""

    def __init__(self, shared: Shared, parent: Parent) -> None:
        self._shared = shared
        self._parent = parent
        self._told = asyncio.Event()
        self._stopped = False

    def stop(self) -> None:
        """To be called in the event loop's thread, or by a signal handler before the loop runs."""
        self._stopped = True
        self._told.set()

    async def run(self, listening: socket.socket, backlog: int) -> None:
        """Accept from ``listening``, whose queue is of ``backlog`` connections, until told to end."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if self._parent.fd >= 0:
            loop.add_reader(self._parent.fd, self._parent_ended)
        look_seconds = LOOK_SECONDS if self._parent.pid and self._parent.fd < 0 else None
        server = await loop.create_server(lambda: Connection(self._shared), sock=listening, backlog=backlog)
        # Looked at before the first sleep, too: of one that went before we began nothing will tell.
        while not self._stopped and not self._parent.gone:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(look_seconds):
                    await self._told.wait()
        if not self._stopped:
            log.warning("supervisord is gone")
        server.close()
        await self._finish()

    async def _finish(self) -> None:
        self._shared.stopping = True
        for one in list(self._shared.open):
            one.stop()
        deadline = asyncio.get_running_loop().time() + _FINISH_SECONDS
        while self._shared.open and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        for one in list(self._shared.open):
            one.evict()
        await asyncio.sleep(0)  # a turn for connection_lost

    def _parent_ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._parent.fd)  # readable for ever, from now on
        self._parent.ended()
        self._told.set()
