"""How a target may behave, and what must come of it; and the behaviours that every HTTP target can have."""

from __future__ import annotations

import functools
import gzip
from collections.abc import Iterator
from dataclasses import dataclass, field

from shm.metric import SeriesKey
from tests.siege.hostile import FOREVER, RESET, Script, drips, endless, gibibyte, http, says, silent


@dataclass(frozen=True)
class Behaviour:
    """``says``: the error of each collection has one of these; none: there must be no error at all.

    ``spoils``: the series that have no sample then; None: all of the endpoint's.
    """

    name: str
    script: Script
    says: tuple[str, ...] = ()
    spoils: frozenset[SeriesKey] | None = None

    @property
    def bad(self) -> bool:
        return self.spoils != frozenset()


NOTHING: frozenset[SeriesKey] = frozenset()
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_MANY = 2**30


@dataclass(frozen=True)
class Words:
    """How a source words what happened to an HTTP exchange."""

    late: tuple[str, ...]
    long: tuple[str, ...]
    broken: tuple[str, ...]
    redirect: tuple[str, ...]
    body: tuple[str, ...]  # a 200 whose body is not what it must be
    encoding: tuple[str, ...] = ()
    status: tuple[str, ...] = field(default=("HTTP {}",))


@functools.cache
def compressed(size: int) -> bytes:
    """gzip that unfolds to ``size`` zeros, a thousandth of it: members of 16 MiB, one behind the other."""
    return gzip.compress(bytes(2**24), 9) * (size // 2**24)


def http_behaviours(good: bytes, elsewhere: str, words: Words) -> Iterator[Behaviour]:
    """What any server of HTTP may do. ``good`` is a body that would be accepted."""
    late, broken = words.late, words.broken
    yield Behaviour("accepts and never answers", silent, late)
    yield Behaviour("answers a byte now and then", drips(http(good + b" " * 900)), late)
    yield Behaviour("drips its headers", drips(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 900), late)
    yield Behaviour("says the head and no body", says(http(b"", length=len(good)), FOREVER), late)
    yield Behaviour("goes on with 100 Continue", endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 40), late)
    yield Behaviour("goes on with headers", endless(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000), broken)
    yield Behaviour(
        "says 100,000 headers", says(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000 + b"\r\n" + good), broken
    )
    yield Behaviour(
        "says a header of 1 MiB", says(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 2**20 + b"\r\n\r\n" + good), broken
    )
    yield Behaviour("sends 1 GiB", gibibyte(http(b"", length=_MANY)), words.long)
    yield Behaviour("sends 1 GiB in chunks", gibibyte(CHUNKED, b"10000\r\n" + b" " * 65_536 + b"\r\n"), words.long)
    yield Behaviour("sends chunks without end", endless(CHUNKED, b"1\r\n \r\n" * 10_000), (*late, *words.long))
    yield Behaviour("sends a chunk of negative size", says(CHUNKED + b"-5\r\n" + good + b"\r\n0\r\n\r\n"), broken)
    yield Behaviour("sends a chunk of no size", says(CHUNKED + b"xyz\r\n" + good + b"\r\n0\r\n\r\n"), broken)
    yield Behaviour("breaks off in a chunk", says(CHUNKED + b"ffff\r\n" + good), broken)
    yield Behaviour("says more Content-Length than it has", says(http(good, length=len(good) + 9)), broken)
    yield Behaviour("says less Content-Length than it has", says(http(good, length=len(good) // 2)), words.body)
    yield Behaviour("resets the connection at once", says(RESET), broken)
    yield Behaviour("resets the connection in mid-reply", says(http(good, length=99_999), 0.02, RESET), broken)
    yield Behaviour("hangs up at once", says(), broken)
    yield Behaviour("speaks TLS", says(b"\x15\x03\x01\x00\x02\x02\x46"), broken)
    yield Behaviour("speaks HTTP/0.9", says(good), broken)
    yield Behaviour("says a wrong status line", says(b"HTTP/1.1 OK 200\r\n\r\n" + good), broken)
    yield Behaviour("says binary garbage", says(bytes(range(256)) * 64 + b"\r\n\r\n"), broken)
    yield Behaviour("answers an empty body", says(http(b"")), words.body)
    yield Behaviour("answers HTML", says(http(b"<!doctype html><p>It works!</p>\n")), words.body)
    for name, to in (("itself", "/"), ("elsewhere", f"{elsewhere}/"), ("a file", "file:///etc/passwd")):
        for status in ("302 Found", "307 Temporary Redirect"):
            yield Behaviour(
                f"redirects to {name} ({status[:3]})",
                says(http(good, f"Location: {to}", status=status)),
                words.redirect,
            )
    for status in ("201 Created", "204 No Content", "206 Partial Content", "304 Not Modified", "401 Unauthorized",
                   "404 Not Found", "500 Internal Server Error", "503 Service Unavailable"):  # fmt: skip
        code = status[:3]
        body = b"" if code in ("204", "304") else good
        said = words.redirect if code == "304" else tuple(one.format(code) for one in words.status)
        yield Behaviour(f"answers {code}", says(http(body, status=status)), said)
    for encoding in ("gzip", "gzip, gzip", "deflate", "br", "zstd"):
        script = _bomb(encoding)
        yield Behaviour(f"sends a bomb of {encoding}", script, words.encoding or words.body)


def _bomb(encoding: str) -> Script:
    packed = compressed(_MANY)
    if encoding == "gzip, gzip":
        packed = gzip.compress(packed)
    return says(http(packed, f"Content-Encoding: {encoding}"))
