"""What one connection may cost. The server under us, uvicorn with httptools, bounds none of it by itself.

    bytes of one request    a header of 100 MB would be kept whole: 431 past max_request_bytes
    time of one request     a connection that never finishes one would hold its place for ever: request_seconds
    requests in advance     pipelined ones wait in memory while the client reads no answers: MAX_PIPELINED of them,
                            MAX_ADVANCE times max_request_bytes together
    time of one answer      a client that takes none would hold its place, too: answer_seconds
    places                  when all are taken, the connection that waits longest makes room: places.py

A request counts from the connection, or from the first byte after the last one, to its end; an answer from the moment
when it is written, or since an earlier one waits, until the kernel has taken the last byte. Of uvicorn's protocol only
methods of asyncio.Protocol, callbacks of httptools and names that are checked for at import are used: ImportError where
a release has them no more.
"""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections import deque
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from exporter.places import Places
from shm.config import ExporterConfig

MAX_PIPELINED: Final = 64
MAX_ADVANCE: Final = 4

# The loop reads up to 256 KiB at once: 14,000 pipelined requests, of which each costs 3 KiB. Fed in pieces, no more
# than some hundred are there before they are counted.
_PIECE: Final = 4096
_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b"
)

for _name in ("on_message_begin", "on_headers_complete", "on_message_complete", "on_response_complete"):
    if not hasattr(HttpToolsProtocol, _name):
        raise ImportError(f"uvicorn's HttpToolsProtocol has no {_name}")


def limited_protocol(config: ExporterConfig, places: Places) -> type[LimitedProtocol]:
    """The protocol for uvicorn, which makes one of each connection, with the limits of ``config``."""
    return type("ConfiguredProtocol", (LimitedProtocol,), {"limits": config, "places": places})


class LimitedProtocol(HttpToolsProtocol):
    """One connection, within those bounds."""

    limits: ClassVar[ExporterConfig]
    places: ClassVar[Places]

    _date: ClassVar[int] = 0  # of the server's Date header, in Unix seconds

    _link: asyncio.Transport
    _in_head = True
    _request_bytes = 0  # received since the last request was complete
    _begun = 0  # requests whose head is complete
    _complete = 0  # requests that are complete
    _answered = 0  # requests that are answered
    _request_timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._link = transport
        self._sizes: deque[int] = deque()  # of the requests that are complete and not answered, oldest first
        # Writing is resumed when the kernel has taken everything, so that paused means: an answer waits.
        transport.set_write_buffer_limits(high=65_536, low=0)
        super().connection_made(_Forgiving(transport))  # type: ignore[arg-type]  # all that uvicorn uses of one
        self._expect_request()
        self.places.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.places.leave(self)
        self._request_timer = _cancelled(self._request_timer)
        self._answer_timer = _cancelled(self._answer_timer)
        super().connection_lost(exc)

    # ---- requests ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            # No further than what a request may have: it ends there, or is too long, whatever one read brings.
            room = self.limits.max_request_bytes - self._request_bytes
            if room <= 0:
                self._refuse()
                return
            size = min(_PIECE, room)
            piece, start = data[start : start + size], start + size
            self._expect_request()
            self._request_bytes += len(piece)
            super().data_received(piece)
            if self._link.is_closing():
                self._expect_reader()
                return
            if self._begun - self._answered > MAX_PIPELINED or sum(self._sizes) > self._most_bytes():
                self._link.abort()
                return

    def on_message_begin(self) -> None:
        self._expect_request()  # behind the end of another one, in the same piece
        self._keep_date()
        super().on_message_begin()

    def _keep_date(self) -> None:
        """The server's own way of it would wake an exporter that nobody asks every second."""
        now, mine = int(time.time()), type(self)
        if now != mine._date:
            mine._date = now
            date = b"date", email.utils.formatdate(now, usegmt=True).encode()
            self.server_state.default_headers = [date, *self.config.encoded_headers]

    def on_headers_complete(self) -> None:
        self._in_head = False
        if not self.places.begin(self):
            self.app: Any = self._all_busy
        super().on_headers_complete()
        self._begun += 1  # below, so that a head that is refused does not count

    def on_message_complete(self) -> None:
        if self._complete >= self._answered:  # a method that no page has is answered before its body came
            self._sizes.append(self._request_bytes)
        self._complete += 1
        self._in_head, self._request_bytes = True, 0
        self._request_timer = _cancelled(self._request_timer)
        super().on_message_complete()

    def _expect_request(self) -> None:
        if self._request_timer is None:
            later = asyncio.get_running_loop().call_later
            self._request_timer = later(self.limits.request_seconds, self._sender_is_late)

    def _sender_is_late(self) -> None:
        self._request_timer = None
        if self._begun > self._answered or self.unread():  # its time begins when we are done with those before it
            self._expect_request()
        else:
            self._link.abort()

    def _most_bytes(self) -> int:
        return MAX_ADVANCE * self.limits.max_request_bytes

    def _refuse(self) -> None:
        if self._in_head and self._begun == self._answered:
            text = b"the request is larger than %d bytes\n" % self.limits.max_request_bytes
            self._link.write(_TOO_LARGE % (len(text), text))
        self._link.close()
        self._expect_reader()

    async def _all_busy(self, scope: object, receive: object, send: Any) -> None:
        text = b"all %d connections are busy with answers; try again in 1 s\n" % self.places.size
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
        headers += [(b"retry-after", b"1"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    # ---- answers -------------------------------------------------------------------------------------------

    def on_response_complete(self) -> None:
        self._answered += 1
        if self._sizes:
            self._sizes.popleft()
        if self._begun == self._answered:
            self.places.rest(self)
        self._answer_timer = _cancelled(self._answer_timer)  # the answer is whole: its reader's time begins
        self._expect_reader()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._expect_reader()

    def resume_writing(self) -> None:
        self._answer_timer = _cancelled(self._answer_timer)
        super().resume_writing()

    def _expect_reader(self) -> None:
        if self._answer_timer is None:
            later = asyncio.get_running_loop().call_later
            self._answer_timer = later(self.limits.answer_seconds, self._reader_is_late)

    def _reader_is_late(self) -> None:
        self._answer_timer = None
        if self.unread():
            self._link.abort()

    # ---- places --------------------------------------------------------------------------------------------

    def unread(self) -> bool:
        return self._link.get_write_buffer_size() > 0

    def evict(self) -> None:
        self._link.abort()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: we offer no WebSocket, and whoever asks for one is no reason to tell anybody to install it."""


class _Forgiving:
    """A transport that takes no offence at an answer for a connection that was just closed.

    A request may be under way when its connection is aborted; uvloop's transports raise RuntimeError then, which would
    be a traceback in the log for each.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def pause_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
