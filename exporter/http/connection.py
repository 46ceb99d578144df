"""One connection: requests in, answers out in their order, and what it may cost meanwhile.

    bytes of one request    a header of 100 MB would be kept whole: 431, or 413 for a body, past max_request_bytes
    time of one request     a connection that never finishes one would hold its place for ever: request_seconds
    time between requests   keep_alive_seconds
    requests in advance     pipelined ones wait in memory while the client reads no answers: MAX_PIPELINED of them,
                            MAX_ADVANCE times max_request_bytes together
    time of one answer      a client that takes none would hold its place, too: answer_seconds
    places                  when all are taken, the connection that waits longest makes room: places.py

A request counts from the connection, or from its first byte, or from the answers before it, whichever is last, to its
end; an answer from the moment when it is written, or since an earlier one waits, until the kernel has taken the last
byte.

One timer a connection looks whether a time is over. It is never moved: it looks as often as the shortest of the three
times, so that no time ends unseen, and a scrape costs no timer.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import httptools

from exporter.http import messages
from exporter.http.messages import Request, Response, http_date
from exporter.http.places import Places
from exporter.settings import ExporterConfig

MAX_PIPELINED: Final = 64
MAX_ADVANCE: Final = 4

# The loop reads up to 256 KiB at once: 14,000 pipelined requests. Fed in pieces, no more than some hundred are there
# before they are counted; and after some answers, or some time, it is the turn of the other connections.
_PIECE: Final = 4096
_ANSWERS_A_TURN: Final = 16
_TURN_SECONDS: Final = 0.002
_HIGH_WATER_BYTES: Final = 65_536  # of answers that the kernel has not taken, after which the next request waits
_KEPT_HEADERS: Final = frozenset({b"accept", b"accept-encoding", b"expect"})

Handler = Callable[[Request], Response | Awaitable[Response]]


@dataclass(slots=True)
class Shared:
    """What all connections of a server have in common.

    ``handle`` never raises, nor does what it returns. ``refused`` is told the status of what got to no handler.
    """

    handle: Handler
    limits: ExporterConfig
    places: Places
    refused: Callable[[int], None] = lambda status: None
    open: set[Connection] = field(default_factory=set)
    stopping: bool = False
    _date_at: int = -1
    _date: str = ""

    def date(self) -> str:
        """The Date header of an answer that is written now."""
        now = int(time.time())
        if now != self._date_at:
            self._date_at, self._date = now, http_date(now)
        return self._date


class Connection(asyncio.Protocol):
    """Made by the event loop for each connection that it accepts."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._limits = limits = shared.limits
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        # Of the request that is not complete yet.
        self._partial = False
        self._in_head = True
        self._received_bytes = 0
        self._url = b""
        self._headers: dict[str, str] = {}
        self._request = _NO_REQUEST
        # What is complete, each with its size; one that is refused has its response already.
        self._completed = 0  # in one turn
        self._waiting: deque[tuple[Request, int, Response | None]] = deque()
        self._waiting_bytes = 0
        self._making: asyncio.Task[None] | None = None
        self._known: tuple[bytes, Request] = b"", self._request  # the bytes of a request, and what they mean
        self._busy = False  # as Places has us
        self._reading = True
        self._paused = False  # until the client has taken its answers
        self._ending = False  # no further request is read; closed when all answers are written
        self._turn_left, self._turn_ends, self._turn_asked = 0, 0.0, False
        # Times of the loop's clock, in seconds: when a request began, when the last answer was made, and since when
        # one waits for the client.
        self._began = self._rested = self._written = self._loop.time()
        self._answered = False
        self._look_seconds = min(limits.request_seconds, limits.answer_seconds, limits.keep_alive_seconds)

    # ---- called by the event loop --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._link = transport
        # Writing is resumed when the kernel has taken everything, so that paused means: an answer waits.
        transport.set_write_buffer_limits(high=_HIGH_WATER_BYTES, low=0)
        # asyncio's own transports, from Python 3.12 on, do not pause for what writelines() adds, and wait for ever to
        # be rid of an empty part at its end.
        self._gathers = type(transport).__module__.startswith("uvloop")
        self._timer = self._loop.call_later(self._look_seconds, self._look)
        self._shared.open.add(self)
        self._shared.places.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        self._shared.open.discard(self)
        self._shared.places.leave(self)
        self._waiting.clear()
        if self._making is not None:
            self._making.cancel()

    def data_received(self, data: bytes) -> None:
        self._begin_turn()
        between = not self._partial and not self._received_bytes
        # A server sends the same bytes with every scrape: what they mean is known.
        if between and data == self._known[0] and not self._ending:
            self._take(self._known[1], len(data))
            return
        self._completed = 0
        most_waiting_bytes = MAX_ADVANCE * self._limits.max_request_bytes
        start = 0
        while start < len(data) and not self._ending:
            # No further than what a request may have: it ends there, or is too long, whatever one read brings.
            room = self._limits.max_request_bytes - self._received_bytes
            if room <= 0:
                self._refuse_size()
                return
            piece = data[start : start + min(_PIECE, room)]
            start += len(piece)
            self._received_bytes += len(piece)
            self._parse(piece)
            if len(self._waiting) > MAX_PIPELINED or self._waiting_bytes > most_waiting_bytes:
                self._link.abort()
                return
        if between and self._completed == 1 and not self._partial and not self._ending and len(data) <= _PIECE:
            self._known = data, self._request

    def eof_received(self) -> bool:
        """The client sends no more; it may still read. True keeps the connection for that."""
        self._ending = True
        return bool(self._waiting) or self._making is not None

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._rested = self._loop.time()
        self._next_turn()

    def _look(self) -> None:
        """Whether a time is over."""
        now = self._loop.time()
        due = self._due()
        if due is not None and now >= due:
            self._link.abort()
            return
        later = self._look_seconds if due is None else min(due - now, self._look_seconds)
        self._timer = self._loop.call_later(later, self._look)

    def _due(self) -> float | None:
        """When the client's time is over; None while it is our turn."""
        if self.unread():
            return self._written + self._limits.answer_seconds
        if self._waiting or self._making is not None:
            return None
        if self._partial or not self._answered:
            return max(self._began, self._rested) + self._limits.request_seconds
        return self._rested + self._limits.keep_alive_seconds

    # ---- called by the parser ------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._partial = True
        self._began = self._loop.time()

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_head:
            return  # a trailer is no header, and none of the next request
        name = name.lower()
        if name in _KEPT_HEADERS:
            key, text, before = name.decode("latin-1"), value.decode("latin-1"), self._headers
            before[key] = f"{before[key]},{text}" if key in before else text

    def on_headers_complete(self) -> None:
        self._in_head = False
        url, headers = httptools.parse_url(self._url), self._headers
        self._url, self._headers = b"", {}
        if url.path is None:
            raise httptools.HttpParserInvalidURLError("its URL has no path")
        # HTTP/1.0 keeps a connection only where both sides say so, which nobody does any more. A protocol that the
        # client would rather speak is not spoken here, though what follows may be in it. And who waits for 100
        # Continue with its body gets the answer instead, since no page takes one.
        expects = "expect" in headers
        parser = self._parser
        keep_alive = (
            parser.should_keep_alive()
            and parser.get_http_version() == "1.1"
            and not parser.should_upgrade()
            and not expects
        )
        method, path = parser.get_method().decode("latin-1"), url.path.decode("latin-1")
        self._request = Request(method, path, url.query or b"", headers, keep_alive)
        if expects:
            self.on_message_complete()

    def on_message_complete(self) -> None:
        if self._ending:  # answered before its body came, or behind a last one
            return
        size, self._received_bytes = self._received_bytes, 0
        self._partial, self._in_head = False, True
        self._completed += 1
        self._ending = not self._request.keep_alive
        self._take(self._request, size)

    # ---- requests ------------------------------------------------------------------------------------------

    def _parse(self, piece: bytes) -> None:
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            self.on_message_complete()
        except httptools.HttpParserError as error:
            if not self._ending:  # what follows a last request is of no interest
                self._refuse(messages.text(400, f"Invalid HTTP request: {error.__context__ or error}"))

    def _refuse_size(self) -> None:
        sentence = f"the request is larger than {self._limits.max_request_bytes} bytes"
        self._refuse(messages.text(431 if self._in_head else 413, sentence))

    def _refuse(self, response: Response) -> None:
        """Answer so, behind what waits, and read no further."""
        self._ending = True
        self._shared.refused(response.status)
        self._take(_NO_REQUEST, 0, response)

    def _take(self, request: Request, size: int, response: Response | None = None) -> None:
        if not self._busy:
            self._busy = True
            if not self._shared.places.begin(self):
                self._ending = True
                self._shared.refused(503)
                request = dataclasses.replace(request, keep_alive=False)
                response = messages.text(
                    503,
                    f"all {self._shared.places.size} connections are busy with answers; try again in 1 s",
                    {"retry-after": "1"},
                )
        self._waiting.append((request, size, response))
        self._waiting_bytes += size
        self._answer()

    # ---- answers -------------------------------------------------------------------------------------------

    def _answer(self) -> None:
        """Answer what waits, as far as the client takes it; one at a time where an answer takes its time."""
        while self._waiting and self._making is None and not self._paused and not self._link.is_closing():
            left = self._turn_left
            if left <= 0 or (left < _ANSWERS_A_TURN and time.perf_counter() >= self._turn_ends):
                if not self._turn_asked:
                    self._turn_asked = True
                    self._loop.call_soon(self._next_turn)
                break
            self._turn_left -= 1
            request, size, refusal = self._waiting.popleft()
            self._waiting_bytes -= size
            found = refusal or self._shared.handle(request)
            if isinstance(found, Response):
                self._write(found, request)
            else:
                self._making = self._loop.create_task(self._make(found, request))
        if not self._waiting and self._making is None:
            self._busy = False
            self._shared.places.rest(self)
            if self._ending:
                self._link.close()
                return
        self._read(not self._waiting)

    def _begin_turn(self) -> None:
        self._turn_left, self._turn_ends = _ANSWERS_A_TURN, time.perf_counter() + _TURN_SECONDS

    def _next_turn(self) -> None:
        self._turn_asked = False
        self._begin_turn()
        self._answer()

    def _read(self, on: bool) -> None:
        """Read on, or no more than what can be answered; what has been read already is bounded."""
        if on != self._reading and not self._link.is_closing():
            self._reading = on
            if on:
                self._link.resume_reading()
            else:
                self._link.pause_reading()

    async def _make(self, awaited: Awaitable[Response], request: Request) -> None:
        response = await awaited
        self._making = None
        self._write(response, request)
        self._next_turn()

    def _write(self, response: Response, request: Request) -> None:
        if self._link.is_closing():
            return
        now = self._loop.time()
        if not self.unread():
            self._written = now
        self._rested, self._answered = now, True
        last = not request.keep_alive or (self._shared.stopping and not self._waiting)
        parts = [response.head(self._shared.date(), not last)]
        if request.method != "HEAD":
            parts += filter(None, response.body)
        if self._gathers:
            self._link.writelines(parts)
        else:
            self._link.write(b"".join(parts))

    # ---- places, and the end -------------------------------------------------------------------------------

    def unread(self) -> bool:
        return self._link.get_write_buffer_size() > 0

    def evict(self) -> None:
        self._link.abort()

    def stop(self) -> None:
        """Close it as soon as what was asked is answered."""
        self._ending = True
        if not self._busy:
            self._link.close()


_NO_REQUEST: Final = Request("", "", keep_alive=False)  # what came was none
