"""QuietServer: uvicorn that sleeps while nothing happens. Seldom: a log that strangers can't fill.

uvicorn's own main loop wakes ten times a second to see whether it is to end, and to make the Date header: 0.15 % of a
core for an exporter that nobody scrapes, fifty times what a collector takes. Here it wakes when it is told to end, or
supervisord has ended; the Date header is made when a request comes (limits.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from types import FrameType
from typing import Final

import uvicorn

from shm.parent import Parent

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0  # whether supervisord still lives, where nothing wakes us when it ends
_SAME_SECONDS: Final = 10.0


class QuietServer(uvicorn.Server):
    """Serves until a signal to stop, or the end of ``parent``."""

    def __init__(self, config: uvicorn.Config, parent: Parent, look_seconds: float | None = None) -> None:
        """``look_seconds``: how often it wakes by itself; None: as seldom as it may."""
        super().__init__(config)
        self._parent = parent
        self._look_seconds = look_seconds or (LOOK_SECONDS if parent.pid and parent.fd < 0 else None)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._told: asyncio.Event | None = None

    async def main_loop(self) -> None:
        self._loop, self._told = asyncio.get_running_loop(), asyncio.Event()
        if self._parent.fd >= 0:
            self._loop.add_reader(self._parent.fd, self._parent_ended)
        # on_tick(0) makes the Date header anew, and tells whether to end.
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds):
                    await self._told.wait()
            self._told.clear()
            if self._parent.gone:
                log.warning("supervisord is gone")
                self.should_exit = True

    def _parent_ended(self) -> None:
        assert self._loop is not None
        assert self._told is not None
        self._loop.remove_reader(self._parent.fd)  # readable for ever, from now on
        self._parent.ended()
        self._told.set()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        if self._loop is not None and self._told is not None:
            self._loop.call_soon_threadsafe(self._told.set)


class Seldom(logging.Filter):
    """Lets a warning pass once in ten seconds, with how many were left out before it.

    uvicorn warns of every request that is no HTTP: who sends many would turn the log over within a minute.
    """

    def __init__(self) -> None:
        super().__init__()
        self._seen: dict[str, tuple[float, int]] = {}  # by message, of which uvicorn has a handful

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno > logging.WARNING:
            return True
        now = time.monotonic()
        passed, left_out = self._seen.get(str(record.msg), (-_SAME_SECONDS, 0))
        if now - passed < _SAME_SECONDS:
            self._seen[str(record.msg)] = passed, left_out + 1
            return False
        self._seen[str(record.msg)] = now, 0
        if left_out:
            record.left_out = left_out
        return True
