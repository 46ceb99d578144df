"""HTTP/1.1 as far as an exporter needs it: what is asked, what is answered, and the bytes of an answer's head.

The syntax of requests is httptools' (connection.py); the meaning is RFC 9110's, the framing RFC 9112's. No page takes a
body, so a request has none here.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

TEXT: Final = "text/plain; charset=utf-8"

_REASONS: Final[Mapping[int, str]] = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    413: "Content Too Large",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Request:
    """One request. ``path`` and ``query`` as they came, percent-encoded.

    ``headers``: by name in lower case; one that came in several lines as one list (RFC 9110, section 5.3).
    ``keep_alive``: whether the client may send another one on the same connection.
    """

    method: str
    path: str
    query: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    keep_alive: bool = True

    def header(self, name: str) -> str:
        """The header, empty where there is none."""
        return self.headers.get(name, "")


@dataclass(slots=True)
class Response:
    """What is answered. ``body``: its parts, sent one after the other as they are."""

    status: int
    body: Sequence[bytes] = ()
    content_type: str = TEXT
    headers: Mapping[str, str] = field(default_factory=dict)

    def head(self, date: str, keep_alive: bool) -> bytes:
        """Status line and headers, with the empty line at their end."""
        lines = [
            f"HTTP/1.1 {self.status} {_REASONS[self.status]}\r\ndate: {date}\r\ncontent-type: {self.content_type}\r\n"
            f"content-length: {sum(map(len, self.body))}\r\n"
        ]
        lines += [f"{name}: {value}\r\n" for name, value in self.headers.items()]
        lines.append("\r\n" if keep_alive else "connection: close\r\n\r\n")
        return "".join(lines).encode("latin-1")


def text(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> Response:
    """An answer of one sentence."""
    return Response(status, (f"{sentence}\n".encode(),), TEXT, headers or {})


def http_date(seconds: int) -> str:
    """A time in Unix seconds as the Date header wants it (RFC 9110, section 5.6.7).

    >>> http_date(784_111_777)
    'Sun, 06 Nov 1994 08:49:37 GMT'
    """
    at = time.gmtime(seconds)  # strftime's names would be the locale's
    day, month, clock = _DAYS[at.tm_wday], _MONTHS[at.tm_mon - 1], time.strftime("%H:%M:%S GMT", at)
    return f"{day}, {at.tm_mday:02} {month} {at.tm_year} {clock}"
