"""Betanet as it may be: the answers of its three endpoints, right and wrong, each with a number of its own."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from shm.metric import SeriesKey
from tests.siege.hostile import Step, http, says
from tests.siege.targets_behaviour import NOTHING, Behaviour, Target, answers, in_chunks, json_behaviours, marked
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
# A histogram's sum and a counter alike must not be drowned by one answer; see the source's docs.
MOST: Final = {"avg_latency_ms": 2.0**32}

# What a short check begins with.
_FIRST: Final = (
    "sends 1 GiB", "goes on with 100 Continue", "redirects to elsewhere (302)", "answers -1 for a number",
    "accepts and never answers", "sends a bomb of gzip", "answers with counters that go back",
    "says a header of 1 MiB",
)  # fmt: skip
_MOST_BYTES: Final = 1 << 20


def good(path: str, number: int) -> dict[str, object]:
    """An answer like Betanet's. All its numbers are told by ``number``, and those that become samples are unique."""
    answers: dict[str, dict[str, object]] = {
        METRICS: {"packets_processed": number, "packets_dropped": number / 4},
        NODES: {"active_nodes": number, "inactive_nodes": 2, "total_nodes": number + 2},
        NETWORK: {"bytes_transmitted": 1, "bytes_received": 2, "avg_latency_ms": number + 0.5, "peak_throughput": 3},
    }
    return answers[path]


def _body(path: str, number: int) -> bytes:
    return json.dumps(good(path, number)).encode()


def _values(path: str) -> Iterator[Behaviour]:
    """One field wrong; the other of the same answer, where there is one, is kept."""
    field = FIELDS[path][-1]
    spoilt = frozenset({SERIES[field]})
    for text in (
        "-1", "-1e-9", "true", '"5"', "null", "[5]", '{"a": 5}', "1e999", "-1e999", "1" + "0" * 400, "1e300", '"NaN"',
    ):  # fmt: skip
        called = f"answers {text[:12]} for a number"
        yield Behaviour(called, answers(_replaced(path, field, text)), ("a number from 0 to",), spoilt)
    for name in ("", field.upper(), f"{field} ", f"x.{field}"):
        called = f"calls a field {name.replace(field, '…')!r}"
        yield Behaviour(called, answers(_renamed(path, field, name)), ("without the field",), spoilt)


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

    def announced(number: int) -> Iterator[Step]:
        yield b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3 + http(text(number).encode())

    def until_closed(number: int) -> Iterator[Step]:
        yield b"HTTP/1.0 200 OK\r\n\r\n" + text(number).encode()

    cookies = [f"Set-Cookie: c{i}={'x' * 20}; Expires=Wed, 01 Jan 2031 00:00:00 GMT" for i in range(900)]
    for name, script in (
        ("a field twice, the last one right", answers(twice)),
        ("fields that nobody knows", answers(lambda number: text(number)[:-1].encode() + b', "x": [{}], "": null}')),
        ("counters that go back", answers(back)),
        ("hints before its answer", announced),
        ("no Content-Length", until_closed),
        ("900 cookies", answers(lambda number: text(number).encode(), *cookies)),
        ("1 MiB of space around it", answers(lambda number: (text(number) + " " * 1_000_000).encode())),
    ):
        yield Behaviour(f"answers with {name}", script, (), NOTHING)
    yield in_chunks(functools.partial(_body, path), 1)
    yield marked(functools.partial(_body, path))


def _expected(path: str, body: bytes) -> dict[SeriesKey, float]:
    """What a body entitles to, by Python's own reading of it and this page's rules."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    found: dict[SeriesKey, float] = {}
    for field in FIELDS[path] if isinstance(document, dict) else ():
        value = document.get(field)
        if type(value) in (int, float) and 0 <= value <= MOST.get(field, 2.0**64):
            found[SERIES[field]] = float(value)
    return found


def target(path: str) -> Target:
    """One of Betanet's endpoints."""
    sound = _body(path, 1)
    wrong = [
        *json_behaviours(sound, _MOST_BYTES, "is not JSON", "it must be a JSON object"),
        Behaviour("answers a list", says(http(b"[1, 2, 3]")), ("it must be a JSON object",)),
    ]
    return Target(
        path, functools.partial(_body, path), frozenset(SERIES[name] for name in FIELDS[path]),
        [*wrong, *_values(path), *_tolerated(path)], _FIRST, not_it=("is not JSON", "without the field"),
        most_bytes=_MOST_BYTES, redirect=("which is not followed", "HTTP 304"),
        entitles=functools.partial(_expected, path),
    )  # fmt: skip


TARGETS: Final = tuple(target(path) for path in PATHS)
