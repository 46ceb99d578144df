"""What a server says, read as it comes: bounded in all of its parts, and whole or an error. No I/O.

    HTTP/1.1 103 Early Hints            any number of these come before the answer, within the bounds
    Link: </style.css>

    HTTP/1.1 200 OK                     another status is an error at once: its body is not waited for
    Content-Type: application/json
    Content-Length: 17                  or: Transfer-Encoding: chunked; or neither, then the body ends with the
                                        connection, which both of the others must not
    {"packets": 5000}

httptools (llhttp, https://github.com/MagicStack/httptools) reads the protocol. It is strict, refuses lines that end
without a carriage return and lengths that contradict each other among others, but it bounds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from httptools import HttpParserError, HttpResponseParser

from collector.exchange.errors import BrokenOff, ExchangeError, NotHttp, Refused, TooLong
from collector.exchange.request import Limits

# One head. Servers send less than 1 KiB, a load balancer's cookies are some KiB.
_HEAD_BYTES = 131_072
# What HTTP may say besides the body in all: heads, sizes of chunks, trailers. 1 MiB in chunks of 8 bytes fits.
_HTTP_BYTES = 1_048_576
_REASON_CHARACTERS = 200
_SHOWN_CHARACTERS = 80

_KEPT = frozenset((b"content-type", b"content-length", b"content-encoding", b"transfer-encoding", b"location"))


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. ``content_type``: what the server calls it, as it came; empty where it does not say."""

    body: bytes
    content_type: str = ""


class Answer(Protocol):
    """Is fed what was received until it has a Reply. Raises ExchangeError as soon as it can't have one any more."""

    def feed(self, data: bytes) -> Reply | None: ...

    def end(self) -> Reply:
        """The server has hung up."""
        ...

    def close(self) -> None:
        """Nothing will be fed any more."""
        ...


class LineAnswer:
    """All that the server says until it hangs up."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._body = bytearray()

    def feed(self, data: bytes) -> Reply | None:
        self._body += data
        check_size(len(self._body), self._limits)
        return None

    def end(self) -> Reply:
        return Reply(bytes(self._body))

    def close(self) -> None:
        self._body.clear()


class HttpAnswer:
    """One HTTP answer. The methods on_… are httptools' to call."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._body = bytearray()
        self.on_body = self._body.extend  # no frame of Python for each chunk
        self._received_bytes = 0
        self._head_bytes = 0
        self._headed = False  # the head of the answer itself is over
        self._reason = b""
        self._headers: dict[bytes, bytes] = {}
        self._whole = False
        self._refused: Refused | None = None
        self._parser = HttpResponseParser(self)

    def feed(self, data: bytes) -> Reply | None:
        self._received_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:  # of what we raised ourselves as well: then the parser is done
            if not (self._whole or self._refused):
                raise NotHttp(f"its answer is not HTTP ({error})") from None
        if self._refused:
            raise self._refused
        check_size(len(self._body), self._limits)
        if self._received_bytes > (most := self._limits.max_reply_bytes + _HTTP_BYTES):
            raise TooLong(
                f"its answer is longer than {self._limits.max_reply_bytes} bytes and {_HTTP_BYTES} of HTTP around them",
                most,
                of_http=True,
            )
        if not self._headed:
            self._head_bytes += len(data)
            if self._head_bytes > _HEAD_BYTES:
                raise NotHttp(f"its answer is not HTTP (a head of more than {_HEAD_BYTES} bytes)")
        return self._reply() if self._whole else None

    def end(self) -> Reply:
        if not self._received_bytes:
            raise BrokenOff("its answer broke off before it began")
        if not self._headed:
            raise BrokenOff("its answer broke off in its head")
        if b"transfer-encoding" in self._headers:
            raise BrokenOff("its answer broke off before its last chunk")
        if b"content-length" in self._headers:
            left = int(self._headers[b"content-length"]) - len(self._body)
            raise BrokenOff(f"its answer broke off {left} bytes before the end")
        return self._reply()

    def close(self) -> None:
        del self._parser  # it and we hold each other
        self._body.clear()

    def _reply(self) -> Reply:
        return Reply(bytes(self._body), _text(self._headers.get(b"content-type", b"")))

    # ---- what the parser has found ----------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._head_bytes = 0
        self._reason = b""
        self._headers.clear()

    def on_status(self, part: bytes) -> None:
        self._reason = (self._reason + part)[:_REASON_CHARACTERS]

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _KEPT and not self._headed:  # headed: a trailer
            known = self._headers.get(name)
            self._headers[name] = value if known is None else known + b", " + value

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            return
        self._headed = True
        self._refused = self._refusal(status)
        if self._refused:
            raise self._refused

    def on_message_complete(self) -> None:
        if self._headed:
            self._whole = True
            raise _Whole  # what follows is not looked at

    def _refusal(self, status: int) -> Refused | None:
        if status != 200:
            location = _text(self._headers.get(b"location", b""))
            return Refused(f"it answered HTTP {status} {_text(self._reason)}".rstrip(), status, location)
        # A kilobyte of gzip can be a gigabyte of zeros. It was asked for none.
        encoding = self._headers.get(b"content-encoding", b"identity")
        if encoding.strip().lower() != b"identity":
            return Refused(f"it answered in Content-Encoding {_shown(encoding)}; it was asked for identity", status)
        transfer = self._headers.get(b"transfer-encoding", b"chunked")
        if transfer.strip().lower() != b"chunked":
            return Refused(f"it answered in Transfer-Encoding {_shown(transfer)}; it was asked for identity", status)
        return None


class _Whole(ExchangeError):
    """Stops the parser behind the answer."""


def check_size(size: int, limits: Limits) -> None:
    """Raises TooLong for a body of more than ``max_reply_bytes``."""
    if size > limits.max_reply_bytes:
        raise TooLong(
            f"its answer is longer than {limits.max_reply_bytes} bytes{limits.named('max_reply_bytes')}",
            limits.max_reply_bytes,
            of_http=False,
        )


def _text(value: bytes) -> str:
    return value.decode("latin-1")


def _shown(value: bytes) -> str:
    return repr(_text(value[:_SHOWN_CHARACTERS]))
