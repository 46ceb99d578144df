"""Who may stay when more connections come than there are places.

    unanswered   no whole request yet: silent since it came, or slow to send       closed first, the oldest first
    answered     kept alive between requests, as a server's is between scrapes     closed next, the longest idle first
    busy         a request in progress, or an answer that is not taken yet         never closed

So a thousand silent connections cost a scrape nothing, be its connection new or kept alive: they make room for each
other. Only where all places are busy is a request refused. Every change takes the same short time, however many there
are. Nobody is judged by address: behind a proxy, or on this host, all clients have the same one.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import time
from typing import Final, Protocol

log = logging.getLogger(__name__)

# Clients that connect together are accepted together, before a byte of any is read. For that long they all stay, so
# that whoever has sent its request is busy when the others are weighed: also from a host that is busy itself.
_SETTLE_SECONDS: Final = 0.1
_LOG_SECONDS: Final = 60.0

# The listening queue: how many the kernel keeps for us while a page is made, and how many may be accepted at once.
BACKLOG: Final = 512
# File descriptors that are no connections: two a ring, the log, the event loop's own, what is open for a moment.
OTHER_FILES: Final = 128
# Where the hard limit has room, as it mostly has: two for each process of an application.
_TABLE_FILES: Final = 8192


class Connection(Protocol):
    def unread(self) -> bool:
        """Whether the kernel has not taken all of an answer yet."""

    def evict(self) -> None:
        """Close it now."""


class Places:
    """``size`` connections stay, and for a moment ``spare`` more, as many as the listening queue holds.

    For the event loop's thread only.
    """

    def __init__(self, size: int, spare: int = BACKLOG) -> None:
        self.size = size
        self.spare = spare
        # Each in the order in which they began to wait.
        self._unanswered: dict[Connection, None] = {}
        self._answered: dict[Connection, None] = {}
        self._busy: set[Connection] = set()
        self._settling: asyncio.Task[None] | None = None
        self._logged = -_LOG_SECONDS

    @property
    def taken(self) -> int:
        return len(self._unanswered) + len(self._answered) + len(self._busy)

    def enter(self, one: Connection) -> None:
        """A connection came."""
        self._unanswered[one] = None
        if self.taken > self.size + self.spare:
            self._make_room()
        elif self.taken > self.size and self._settling is None:
            self._settling = asyncio.get_running_loop().create_task(self._settle())

    def begin(self, one: Connection) -> bool:
        """A request came. False: all places are busy; answer so, and close."""
        self._unanswered.pop(one, None)
        self._answered.pop(one, None)
        self._busy.add(one)
        if self.taken <= self.size:
            return True
        # While newcomers have their moment, nobody is closed for a request, unless the places are full of such as can't
        # be closed: it would be one of the newcomers, beside any number of idle ones.
        if self._settling is not None and len(self._busy) + sum(map(_unread, self._answered)) <= self.size:
            return True
        return self._make_room()

    def rest(self, one: Connection) -> None:
        """All its requests are answered."""
        if one in self._busy:
            self._busy.remove(one)
            self._answered[one] = None

    def leave(self, one: Connection) -> None:
        """It is closed."""
        self._unanswered.pop(one, None)
        self._answered.pop(one, None)
        self._busy.discard(one)

    async def _settle(self) -> None:
        await asyncio.sleep(_SETTLE_SECONDS)
        # A turn of the event loop, whichever it is, runs what was due, then asks for what has arrived, then reads it:
        # after three, everything that had arrived before has been read.
        for _ in range(3):
            await asyncio.sleep(0)
        self._settling = None
        while self.taken > self.size and self._make_room():
            pass

    def _make_room(self) -> bool:
        """Close the one that can be spared best. False: there is none."""
        for group in (self._unanswered, self._answered):
            for one in group:
                if not one.unread():
                    del group[one]
                    one.evict()
                    self._note()
                    return True
        return False

    def _note(self) -> None:
        now = time.monotonic()
        if now - self._logged >= _LOG_SECONDS:
            self._logged = now
            log.warning("more connections than places, idle ones are closed", extra={"max_connections": self.size})


def _unread(one: Connection) -> bool:
    return one.unread()


def fitting(max_connections: int) -> tuple[int, int]:
    """(places, length of the listening queue) within this process's limit on open files, which is raised if it may be.

    Past that limit a connection is accepted and closed at once (by libuv, so that it does not spin), whoever it is:
    there have to be descriptors for those who come together, beside those who stay.
    """
    needed = max_connections + BACKLOG + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = needed + _TABLE_FILES if hard == resource.RLIM_INFINITY else min(needed + _TABLE_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    places, backlog = divided(most, max_connections)
    if places < max_connections:
        log.warning(
            "fewer connections than configured; raise the limit on open files",
            extra={"max_connections": max_connections, "now": places, "files": most, "needed": needed},
        )
    return places, backlog


def divided(files: int, max_connections: int) -> tuple[int, int]:
    """(places, listening queue) with that many file descriptors: half of what there is for each, where both want more.

    >>> divided(1024, 256)
    (256, 512)
    >>> divided(256, 256)
    (64, 64)
    """
    rest = max(files - OTHER_FILES, 2)
    places = min(max_connections, max(rest - BACKLOG, rest // 2))
    return places, min(BACKLOG, rest - places)
