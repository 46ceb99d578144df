"""Betanet as it may be: the answers of its three endpoints, right and wrong, each with a number of its own."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from shm.metric import SeriesKey
from tests.siege.hostile import Script, Step, chunks, http, says
from tests.siege.targets_behaviour import NOTHING, Behaviour, Words, http_behaviours
from tests.stand_ins.betanet import METRICS, NETWORK, NODES, PATHS

FIELDS: Final[Mapping[str, tuple[str, ...]]] = {
    METRICS: ("packets_processed", "packets_dropped"),
    NODES: ("active_nodes",),
    NETWORK: ("avg_latency_ms",),
}
SERIES: Final[Mapping[str, SeriesKey]] = {
    "packets_processed": ("betanet_packets_processed", ()),
    "packets_dropped": ("betanet_packets_dropped", ()),
    "active_nodes": ("betanet_connections", ()),
    "avg_latency_ms": ("betanet_latency", ()),
}
SERIES_OF: Final = {path: frozenset(SERIES[name] for name in FIELDS[path]) for path in PATHS}
# A histogram's sum and a counter alike must not be drowned by one answer; see the source's docs.
MOST: Final = {"avg_latency_ms": 2.0**32}

# What a short check begins with.
FIRST: Final = (
    "sends 1 GiB", "goes on with 100 Continue", "redirects to elsewhere (302)", "answers -1 for a number",
    "accepts and never answers", "sends a bomb of gzip", "answers with counters that go back",
    "says a header of 1 MiB",
)  # fmt: skip

_WORDS = Words(
    late=("no whole answer within",),
    long=("longer than 1048576 bytes",),
    broken=("its answer broke off",),
    redirect=("which is not followed", "HTTP 304"),
    body=("is not JSON", "without the field"),
    encoding=("it was asked for identity",),
)


def good(path: str, number: int) -> dict[str, object]:
    """An answer like Betanet's. All its numbers are told by ``number``, and those that become samples are unique."""
    answers: dict[str, dict[str, object]] = {
        METRICS: {"packets_processed": number, "packets_dropped": number / 4},
        NODES: {"active_nodes": number, "inactive_nodes": 2, "total_nodes": number + 2},
        NETWORK: {"bytes_transmitted": 1, "bytes_received": 2, "avg_latency_ms": number + 0.5, "peak_throughput": 3},
    }
    return answers[path]


def well(path: str) -> Script:
    return _body(lambda number: json.dumps(good(path, number)).encode())


def _body(make: Callable[[int], bytes], *headers: str) -> Script:
    def script(number: int) -> Iterator[Step]:
        yield http(make(number), "Content-Type: application/json", *headers)

    return script


def behaviours(path: str, elsewhere: str) -> list[Behaviour]:
    """Everything that this endpoint can do."""
    body = json.dumps(good(path, 1)).encode()
    return [*http_behaviours(body, elsewhere, _WORDS), *_bodies(path), *_values(path), *_tolerated(path)]


def _bodies(path: str) -> Iterator[Behaviour]:
    """A 200 whose body is wrong as a whole."""
    field = FIELDS[path][0]
    whole = json.dumps(good(path, 1)).encode()
    for name, body, said in (
        ("lists 500,000 deep", b"[" * 500_000, "50000 objects and lists"),
        ("lists 40,000 deep", b'{"x":' + b"[" * 40_000 + b"]" * 40_000 + b"}", "nested too deep"),
        ("objects 40,000 deep", b'{"a":' * 40_000, "nested too deep"),
        ("1 MiB of empty lists", b'{"x":[0' + b",[]" * 340_000 + b"]}", "50000 objects and lists"),
        ("1 MiB of small objects", b'{"x":[0' + b',{"":0}' * 140_000 + b"]}", "50000 objects and lists"),
        ("an integer of 5,000 digits", b'{"%b":' % field.encode() + b"9" * 5000 + b"}", "is not JSON"),
        ("NaN", b'{"%b": NaN}' % field.encode(), "NaN is not JSON"),
        ("-Infinity", b'{"other": -Infinity, "%b": 1}' % field.encode(), "-Infinity is not JSON"),
        ("invalid UTF-8", whole[:-1] + b', "x": "\xff\xfe"}', "is not JSON"),
        ("half of its JSON", whole[: len(whole) // 2], "is not JSON"),
        ("a list", b"[1, 2, 3]", "it must be a JSON object"),
        ("a string", b'"5000"', "it must be a JSON object"),
        ("null", b"null", "it must be a JSON object"),
        ("NUL bytes", b"\0" * 4096, "is not JSON"),
    ):
        yield Behaviour(f"answers {name}", says(http(body)), (said,))


def _values(path: str) -> Iterator[Behaviour]:
    """One field wrong; the other of the same answer, where there is one, is kept."""
    field = FIELDS[path][-1]
    spoilt = frozenset({SERIES[field]})
    for text, said in (
        ("-1", "0 or more"), ("-1e-9", "0 or more"), ("true", "0 or more"), ('"5"', "0 or more"),
        ("null", "0 or more"), ("[5]", "0 or more"), ('{"a": 5}', "0 or more"), ("1e999", "0 or more"),
        ("-1e999", "0 or more"), ("1" + "0" * 400, "0 or more"), ("1e300", "at most"), ('"NaN"', "0 or more"),
    ):  # fmt: skip
        yield Behaviour(f"answers {text[:12]} for a number", _body(_replaced(path, field, text)), (said,), spoilt)
    for name in ("", field.upper(), f"{field} ", f"x.{field}"):
        called = f"calls a field {name.replace(field, '…')!r}"
        yield Behaviour(called, _body(_renamed(path, field, name)), ("without the field",), spoilt)


def _replaced(path: str, field: str, text: str) -> Callable[[int], bytes]:
    def make(number: int) -> bytes:
        answer = json.dumps({**good(path, number), field: "@"})
        return answer.replace('"@"', text).encode()

    return make


def _renamed(path: str, field: str, name: str) -> Callable[[int], bytes]:
    def make(number: int) -> bytes:
        answer = good(path, number)
        answer[name] = answer.pop(field)
        return json.dumps(answer).encode()

    return make


def _tolerated(path: str) -> Iterator[Behaviour]:
    """Unusual, and right all the same: the samples are there."""

    def text(number: int) -> str:
        return json.dumps(good(path, number))

    def twice(number: int) -> bytes:
        first = json.dumps(dict.fromkeys(FIELDS[path], -1))
        return f"{first[:-1]}, {text(number)[1:]}".encode()

    def back(number: int) -> bytes:
        return text(number - 500_000).encode()

    def pieces(number: int) -> Iterator[Step]:
        yield chunks([bytes([byte]) for byte in text(number).encode()])

    def announced(number: int) -> Iterator[Step]:
        yield b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3 + http(text(number).encode())

    def until_closed(number: int) -> Iterator[Step]:
        yield b"HTTP/1.0 200 OK\r\n\r\n" + text(number).encode()

    cookies = [f"Set-Cookie: c{i}={'x' * 20}; Expires=Wed, 01 Jan 2031 00:00:00 GMT" for i in range(900)]
    for name, script in (
        ("a byte order mark", _body(lambda number: b"\xef\xbb\xbf" + text(number).encode())),
        ("a field twice, the last one right", _body(twice)),
        ("fields that nobody knows", _body(lambda number: text(number)[:-1].encode() + b', "x": [{}], "": null}')),
        ("counters that go back", _body(back)),
        ("chunks of a byte", pieces),
        ("hints before its answer", announced),
        ("no Content-Length", until_closed),
        ("900 cookies", _body(lambda number: text(number).encode(), *cookies)),
        ("1 MiB of space around it", _body(lambda number: (text(number) + " " * 1_000_000).encode())),
    ):
        yield Behaviour(f"answers with {name}", script, (), NOTHING)


class Mutated:
    """Answers with some bytes changed. ``allowed`` has every value that one of them entitles a sample to."""

    def __init__(self, path: str, random_: random.Random) -> None:
        self.path = path
        self.allowed: dict[SeriesKey, set[float]] = {SERIES[field]: set() for field in FIELDS[path]}
        self.answers = 0
        self.refused = 0
        self._random = random_

    def script(self, number: int) -> Iterator[Step]:
        body = bytearray(json.dumps(good(self.path, number)).encode())
        for _ in range(self._random.choice((0, 1, 1, 2, 3, 8))):
            _mutate(body, self._random)
        for field, value in expected(bytes(body), self.path).items():
            self.allowed[SERIES[field]].add(value)
        self.answers += 1
        yield http(bytes(body))


def expected(body: bytes, path: str) -> dict[str, float]:
    """What a body entitles to, by Python's own reading of it and this page's rules."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    found: dict[str, float] = {}
    for field in FIELDS[path] if isinstance(document, dict) else ():
        value = document.get(field)
        if type(value) in (int, float) and 0 <= value <= MOST.get(field, 2.0**64):
            found[field] = float(value)
    return found


_PIECES = (
    b"", b"-", b"e9", b"E+999", b"0", b"9" * 30, b"null", b"true", b"NaN", b"[", b"]", b"{", b"}", b'"', b",", b":",
    b"\xff", b"\0", b"\\u0000", b".", b" ", b"\n", b"1e-400", b"[[[[[[[[", b"Infinity",
)  # fmt: skip


def _mutate(body: bytearray, random_: random.Random) -> None:
    at = random_.randrange(len(body) + 1)
    kind = random_.randrange(5)
    if kind == 0 and at < len(body):
        body[at] = random_.randrange(256)
    elif kind == 1:
        body[at : at + random_.randrange(6)] = random_.choice(_PIECES)
    elif kind == 2:
        body[at:at] = random_.choice(_PIECES)
    elif kind == 3:
        del body[at:]
    else:
        other = random_.randrange(len(body) + 1)
        body[at:at] = body[min(at, other) : max(at, other)]
