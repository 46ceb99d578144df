"""Prometheus' text format 0.0.4, of which the samples that somebody wants are read, a line at a time.

    # HELP http_requests_total Requests.
    # TYPE http_requests_total counter
    http_requests_total{code="200",path="C:\\\\dir \\"x\\""} 1027 1395066363000

(https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format). Most of a page are samples that nobody
wants, whose lines are looked at only as far as their name. Of the others name, labels and value must be as the format
has them; comments, which declare types among others, are not needed, for who wants a sample knows what it is.

The page is not trusted: lines, their length, and the samples that are kept are bounded, and nothing is built of what is
not wanted.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from collector.sources.deployment.provider import reply_lines

# 4 MiB hold some 60,000 samples; of empty lines alone they would be 4,000,000.
MAX_LINES: Final = 200_000
# Of one page, those that are wanted. Each takes some 300 bytes until the next page has been read.
MAX_SAMPLES: Final = 30_000
_SHOWN_BYTES: Final = 60

_NAME: Final = re.compile(rb"[a-zA-Z_:][a-zA-Z0-9_:]*+")
_LABEL: Final = re.compile(rb'[ \t]*+([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"((?:[^"\\]|\\.)*+)"[ \t]*+(,|\})')
_LAST: Final = re.compile(rb"[ \t]*+\}")
# Python's float() takes more: "1_0", "infinity", digits of other scripts.
_NUMBER: Final = rb"[+-]?(?:[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][+-]?[0-9]++)?|[+-]?[iI]nf|[nN]a[nN]"
_VALUE: Final = re.compile(rb"[ \t]*+(%b)(?:[ \t]++-?[0-9]++)?[ \t]*+\r?\n" % _NUMBER)
_BOUND: Final = re.compile(_NUMBER.decode())
_ESCAPE: Final = re.compile(r'\\([\\"n])')


class TextSample(NamedTuple):
    """``labels``: in the page's order. ``value`` may be NaN or infinite."""

    name: str
    labels: dict[str, str]
    value: float


def read_samples(page: bytes, wanted: Collection[str]) -> Iterator[TextSample]:
    """The samples whose name is ``wanted``. Raises ValueError where it is no such page, or breaks a bound. Pure."""
    if page and not page.endswith(b"\n"):
        raise ValueError("its answer breaks off in mid-line")
    names = {one.encode(): one for one in wanted}
    prefixes = tuple(names)
    kept = 0
    found = False
    for number, line in enumerate(reply_lines(page, MAX_LINES), 1):
        if not line.startswith(prefixes):
            # As far as it takes to tell a page from something else: a name, or a comment, or nothing.
            if line[0] not in b"#\n\r":
                if not _NAME.match(line):
                    raise _nonsense(number, line)
                found = True
            continue
        found = True
        match = _NAME.match(line)
        name = names.get(match[0]) if match else None
        if match is None or name is None:
            continue  # of a longer name
        labels, end = _labels(line, match.end(), number)
        value = _VALUE.fullmatch(line, end)
        if value is None:
            raise _nonsense(number, line)
        kept += 1
        if kept > MAX_SAMPLES:
            raise ValueError(f"its answer has more than {MAX_SAMPLES} samples of those that are mapped")
        yield TextSample(name, labels, float(value[1]))
    if not found:
        raise ValueError("its answer has no samples")


def bound(text: str) -> float | None:
    """The upper bound that a label ``le`` names; None for what is no number."""
    if not _BOUND.fullmatch(text):
        return None
    value = float(text)
    return None if math.isnan(value) else value


def _labels(line: bytes, position: int, number: int) -> tuple[dict[str, str], int]:
    """The labels from ``position`` on, and where they end."""
    while line[position] in b" \t":
        position += 1
    if line[position] != ord("{"):
        return {}, position
    labels: dict[str, str] = {}
    position += 1
    while True:
        label = _LABEL.match(line, position)
        if label is None:
            end = _LAST.match(line, position)
            if end is None:
                raise _nonsense(number, line)
            return labels, end.end()
        try:
            value = label[2].decode("utf-8")
        except UnicodeDecodeError:
            raise _nonsense(number, line) from None
        labels[label[1].decode()] = _ESCAPE.sub(_unescaped, value) if "\\" in value else value
        position = label.end()
        if label[3] == b"}":
            return labels, position


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


def _nonsense(number: int, line: bytes) -> ValueError:
    begin = line[:_SHOWN_BYTES].decode("utf-8", "replace")
    return ValueError(f"line {number} of its answer is not of Prometheus' text format: {begin!r}")
