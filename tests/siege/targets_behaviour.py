"""How a target may behave, and what must come of it; and the behaviours that every target of a protocol can have."""

from __future__ import annotations

import functools
import gzip
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from shm.metric import SeriesKey
from tests.siege.hostile import FOREVER, RESET, Script, Step, chunks, drips, endless, gibibyte, http, says, silent


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


NOTHING: Final[frozenset[SeriesKey]] = frozenset()
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LATE: Final = ("no whole answer within",)
_BROKEN: Final = ("its answer broke off",)
_MANY: Final = 2**30


@dataclass(frozen=True)
class Target:
    """What a collector asks, at ``path``, and what may come of it.

    ``make``: a sound answer's body, told by the number of the question. ``series``: those that it is asked for.
    ``own``: what it may do beyond what any server of its protocol may. ``first``: the behaviours that come first,
    however short the check. ``not_it``: how the error words a body that is another thing's. ``unique``: no two answers
    give a series one sample. ``raw``: it answers without HTTP. ``entitles``: the samples that a body entitles to.
    """

    path: str
    make: Callable[[int], bytes]
    series: frozenset[SeriesKey]
    own: Iterable[Behaviour]
    first: tuple[str, ...]
    not_it: tuple[str, ...]
    most_bytes: int = 4 << 20
    redirect: tuple[str, ...] = ("HTTP 30",)
    path_in_url: bool = False
    unique: bool = True
    raw: bool = False
    entitles: Callable[[bytes], dict[SeriesKey, float]] | None = None

    @property
    def long(self) -> tuple[str, ...]:
        return (f"longer than {self.most_bytes} bytes",)

    def behaviours(self, elsewhere: str) -> list[Behaviour]:
        """Everything that it can do. ``elsewhere``: where it redirects to."""
        return [*(_socket_behaviours(self) if self.raw else _http_behaviours(self, elsewhere)), *self.own]

    def mutated(self, random_: random.Random, told: Callable[[bytes], None]) -> Script:
        """Sound answers with some bytes changed, each of which is told."""

        def make(number: int) -> bytes:
            body = bytearray(self.make(number))
            for _ in range(random_.choice((0, 1, 1, 2, 3, 8))):
                _mutate(body, random_)
            told(bytes(body))
            return bytes(body)

        return answers(make, raw=self.raw)


# ---- scripts -------------------------------------------------------------------------------------------------


def answers(make: Callable[[int], bytes], *headers: str, raw: bool = False) -> Script:
    """``make``, of the number of the question, whenever it is asked."""

    def script(number: int) -> Iterator[Step]:
        yield make(number) if raw else http(make(number), *headers)

    return script


def in_chunks(make: Callable[[int], bytes], size: int = 2) -> Behaviour:
    """The same in chunks of so many bytes: unusual, and right."""

    def script(number: int) -> Iterator[Step]:
        body = make(number)
        yield chunks([body[i : i + size] for i in range(0, len(body), size)])

    return Behaviour(f"answers in chunks of {size} bytes", script, (), NOTHING)


def marked(make: Callable[[int], bytes]) -> Behaviour:
    return Behaviour("answers with a byte order mark", answers(lambda n: b"\xef\xbb\xbf" + make(n)), (), NOTHING)


_PIECES: Final = (
    b"", b"-", b"e9", b"E+999", b"0", b"9" * 30, b"null", b"true", b"NaN", b"[", b"]", b"{", b"}", b'"', b",", b":",
    b"\xff", b"\0", b"\\u0000", b".", b" ", b"\n", b"1e-400", b"[[[[[[[[", b"Infinity", b"<", b">", b"&a;", b"]]>",
)  # fmt: skip


def _mutate(body: bytearray, random_: random.Random) -> None:
    """Change, insert, replace, take out or repeat some bytes, or break off."""
    at = random_.randrange(len(body) + 1)
    kind = random_.randrange(5)
    if kind == 0 and at < len(body):
        body[at] = random_.randrange(256)
    elif kind == 1:
        body[at : at + random_.choice((0, 1, 5, 19))] = random_.choice(_PIECES)
    elif kind == 2:
        body[at:at] = random_.choice(_PIECES)
    elif kind == 3:
        del body[at:]
    else:
        other = random_.randrange(len(body) + 1)
        body[at:at] = body[min(at, other) : max(at, other)]


# ---- behaviours ----------------------------------------------------------------------------------------------


@functools.cache
def compressed(size: int) -> bytes:
    """gzip that unfolds to ``size`` zeros, a thousandth of it: members of 16 MiB, one behind the other."""
    return gzip.compress(bytes(2**24), 9) * (size // 2**24)


def _socket_behaviours(target: Target) -> Iterator[Behaviour]:
    """What a stats socket may do, which has no protocol but the page."""
    sound, late, long, not_it = target.make(1), LATE, target.long, target.not_it
    yield Behaviour("accepts and never answers", silent, late)
    yield Behaviour("answers a byte now and then", drips(sound + b"web,BACKEND,1\n" * 90), late)
    yield Behaviour("says its page and never hangs up", says(sound, FOREVER), late)
    yield Behaviour("goes on with lines", endless(sound[:-1], b"x,BACKEND,1\n" * 1000), long)
    yield Behaviour("goes on with a line", endless(sound[:-1], b"x" * 65_536), long)
    yield Behaviour("sends 1 GiB", gibibyte(b"", bytes(2**20)), long)
    yield Behaviour("hangs up at once", says(), not_it)
    yield Behaviour("hangs up between two lines", says(sound[:-1]), ("broke off",))
    yield Behaviour("hangs up in mid-line", says(sound[:-9]), ("broke off",))
    yield Behaviour("says binary garbage", says(bytes(range(256)) * 64), not_it)
    yield Behaviour("refuses", says(b"Permission denied\n\n"), ("'Permission denied",))


def _http_behaviours(target: Target, elsewhere: str) -> Iterator[Behaviour]:
    """What any server of HTTP may do."""
    good, late, broken = target.make(1), LATE, _BROKEN
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
    yield Behaviour("sends 1 GiB", gibibyte(http(b"", length=_MANY)), target.long)
    yield Behaviour("sends 1 GiB in chunks", gibibyte(CHUNKED, b"10000\r\n" + b" " * 65_536 + b"\r\n"), target.long)
    yield Behaviour("sends chunks without end", endless(CHUNKED, b"1\r\n \r\n" * 10_000), (*late, *target.long))
    yield Behaviour("sends a chunk of negative size", says(CHUNKED + b"-5\r\n" + good + b"\r\n0\r\n\r\n"), broken)
    yield Behaviour("sends a chunk of no size", says(CHUNKED + b"xyz\r\n" + good + b"\r\n0\r\n\r\n"), broken)
    yield Behaviour("breaks off in a chunk", says(CHUNKED + b"ffff\r\n" + good), broken)
    yield Behaviour("says more Content-Length than it has", says(http(good, length=len(good) + 9)), broken)
    yield Behaviour("says less Content-Length than it has", says(http(good, length=len(good) // 2)), target.not_it)
    yield Behaviour("resets the connection at once", says(RESET), broken)
    yield Behaviour("resets the connection in mid-reply", says(http(good, length=99_999), 0.02, RESET), broken)
    yield Behaviour("hangs up at once", says(), broken)
    yield Behaviour("speaks TLS", says(b"\x15\x03\x01\x00\x02\x02\x46"), broken)
    yield Behaviour("speaks HTTP/0.9", says(good), broken)
    yield Behaviour("says a wrong status line", says(b"HTTP/1.1 OK 200\r\n\r\n" + good), broken)
    yield Behaviour("says binary garbage", says(bytes(range(256)) * 64 + b"\r\n\r\n"), broken)
    yield Behaviour("answers an empty body", says(http(b"")), target.not_it)
    yield Behaviour("answers HTML", says(http(b"<!doctype html><p>It works!</p>\n")), target.not_it)
    for name, to in (("itself", "/"), ("elsewhere", f"{elsewhere}/"), ("a file", "file:///etc/passwd")):
        for status in ("302 Found", "307 Temporary Redirect"):
            yield Behaviour(
                f"redirects to {name} ({status[:3]})",
                says(http(good, f"Location: {to}", status=status)),
                target.redirect,
            )
    for status in ("201 Created", "204 No Content", "206 Partial Content", "304 Not Modified", "401 Unauthorized",
                   "404 Not Found", "500 Internal Server Error", "503 Service Unavailable"):  # fmt: skip
        code = status[:3]
        body = b"" if code in ("204", "304") else good
        said = target.redirect if code == "304" else (f"HTTP {code}",)
        yield Behaviour(f"answers {code}", says(http(body, status=status)), said)
    for encoding in ("gzip", "gzip, gzip", "deflate", "br", "zstd"):
        script = _bomb(encoding)
        yield Behaviour(f"sends a bomb of {encoding}", script, ("it was asked for identity",))


def _bomb(encoding: str) -> Script:
    packed = compressed(_MANY)
    if encoding == "gzip, gzip":
        packed = gzip.compress(packed)
    return says(http(packed, f"Content-Encoding: {encoding}"))


def json_behaviours(sound: bytes, most_bytes: int, invalid: str, shape: str) -> Iterator[Behaviour]:
    """Bodies that are wrong as a whole. ``invalid``: the error of what is no JSON; ``shape``: of other JSON."""
    fill = most_bytes - 2**16
    for name, body, said in (
        ("lists 500,000 deep", b"[" * 500_000, "50000 objects and lists"),
        ("lists 40,000 deep", b"[" * 40_000 + b"]" * 40_000, "nested too deep"),
        ("objects 40,000 deep", b'{"a":' * 40_000, "nested too deep"),
        ("nothing but empty lists", b"[0" + b",[]" * (fill // 3) + b"]", "50000 objects and lists"),
        ("nothing but small objects", b"[0" + b',{"":0}' * (fill // 7) + b"]", "50000 objects and lists"),
        ("an integer of 5,000 digits", b"[" + b"9" * 5000 + b"]", invalid),
        ("NaN", b"[NaN]", "NaN is not JSON"),
        ("-Infinity", b"[-Infinity]", "-Infinity is not JSON"),
        ("invalid UTF-8", sound.replace(b'"', b'"\xff\xfe', 1), invalid),
        ("half of its JSON", sound[: len(sound) // 2], invalid),
        ("NUL bytes", b"\0" * 4096, invalid),
        ("a string", b'"5000"', shape),
        ("null", b"null", shape),
    ):
        yield Behaviour(f"answers {name}", says(http(body)), (said,))
