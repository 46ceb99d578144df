"""What one connection may cost. The server under us, uvicorn with httptools, bounds none of it by itself.

    bytes of one request    a header of 100 MB would be kept whole: 431 past MAX_REQUEST_BYTES
    time of one request     a connection that never finishes one would hold its place in max_connections for ever
    requests in advance     pipelined ones wait in memory while the client reads no answers
    time of one answer      a client that reads none would hold its place, too

A request counts from the connection, or from the first byte after the last one, to its end. Of uvicorn's protocol only
methods of asyncio.Protocol, callbacks of httptools and names that are checked for at import are used: ImportError where
a release has them no more.
"""

from __future__ import annotations

import asyncio
from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_REQUEST_BYTES: Final = 65_536  # a URL of more the parser does not take, and no page takes a body
MAX_PIPELINED: Final = 64
REQUEST_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 60.0  # a page of 1 MiB at 140 kbit/s

# The loop reads up to 256 KiB at once: 14,000 pipelined requests, of which each costs 3 KiB. Fed in pieces, no more
# than some hundred are there before they are counted.
_PIECE: Final = 4096
_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: text/plain; charset=utf-8\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%b"
)

for _name in ("on_message_begin", "on_headers_complete", "on_message_complete"):
    if not hasattr(HttpToolsProtocol, _name):
        raise ImportError(f"uvicorn's HttpToolsProtocol has no {_name}")


class LimitedProtocol(HttpToolsProtocol):
    """One connection, within those bounds."""

    _link: asyncio.Transport
    _request_bytes = 0  # received since the last request was complete
    _in_head = True
    _request_timer: asyncio.TimerHandle | None = None
    _answer_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._link = transport
        super().connection_made(transport)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request_timer = _cancelled(self._request_timer)
        self._answer_timer = _cancelled(self._answer_timer)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        for start in range(0, len(data), _PIECE):
            piece = data[start : start + _PIECE]
            self._expect_request()
            self._request_bytes += len(piece)
            super().data_received(piece)
            if self._link.is_closing():
                return
            if len(getattr(self, "pipeline", ())) > MAX_PIPELINED:
                self._link.abort()
                return
            if self._request_bytes > MAX_REQUEST_BYTES:
                self._refuse()
                return

    def on_message_begin(self) -> None:
        self._expect_request()  # behind the end of another one, in the same piece
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_head, self._request_bytes = True, 0
        self._request_timer = _cancelled(self._request_timer)
        super().on_message_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._answer_timer = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._link.abort)

    def resume_writing(self) -> None:
        self._answer_timer = _cancelled(self._answer_timer)
        super().resume_writing()

    def _expect_request(self) -> None:
        if self._request_timer is None:
            self._request_timer = asyncio.get_running_loop().call_later(REQUEST_SECONDS, self._link.abort)

    def _refuse(self) -> None:
        cycle = getattr(self, "cycle", None)
        if self._in_head and (cycle is None or getattr(cycle, "response_complete", False)):
            text = b"the request is larger than %d bytes\n" % MAX_REQUEST_BYTES
            self._link.write(_TOO_LARGE % (len(text), text))
        self._link.close()

    def _unsupported_upgrade_warning(self) -> None:
        """Nothing: we offer no WebSocket, and whoever asks for one is no reason to tell anybody to install it."""


def _cancelled(timer: asyncio.TimerHandle | None) -> asyncio.TimerHandle | None:
    if timer is not None:
        timer.cancel()
    return None
