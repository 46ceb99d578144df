"""Prometheus text 0.0.4, read strictly: files of the source textfile whole, pages of other programs by wanted names.

    # HELP jobs_total Jobs done.            text, with the escapes \\\\ and \\n
    # TYPE jobs_total counter               counter, gauge, histogram, summary or untyped
    # UNIT jobs_seconds seconds             a plain comment to others; taken for the unit here
    jobs_total{queue="a",path="C:\\\\x"} 17   name, labels (escapes \\\\ \\" \\n), value

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format. What the format leaves open is decided
as Prometheus' own parser does (prometheus/common, expfmt/text_parse.go), and where that is lenient, strictly: a mistake
that is named is mended. So: a value is a decimal number, Inf or NaN, in any case; the last line has an end, as the half
of a file seldom has; HELP and TYPE stand once, TYPE before the samples.

    parse(text)                   all families. A timestamp is refused, as node_exporter refuses it: a sample of a file
                                  is of the time at which the file is read, and one with another would never be stale
    read_samples(text, wanted)    the samples of some names. Other lines are skipped by one regular expression over the
                                  whole page, which looks at their beginning alone: twice as fast as line by line
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shm.errors import FogmetricsError
from shm.safe_repr import shown

# Of a page of which some samples are wanted: 4 MiB hold some 60,000 samples, or 4,000,000 empty lines.
MAX_LINES: Final = 200_000
KINDS: Final = ("counter", "gauge", "histogram", "summary", "untyped")

# Possessive throughout: nothing is tried twice, so that a line's time is its length's.
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*+\Z")
_BEGUN: Final = re.compile(r"[ \t]*+([a-zA-Z_:][a-zA-Z0-9_:]*+)[ \t]*+(\{)?+")
_PAIR: Final = re.compile(r'[ \t]*+([a-zA-Z_][a-zA-Z0-9_]*+)[ \t]*+=[ \t]*+"((?:[^"\\]|\\[\\"n])*+)"[ \t]*+([,}])')
_CLOSED: Final = re.compile(r"[ \t]*+\}")
_VALUE: Final = re.compile(r"[ \t]*+([^ \t]++)(?:[ \t]++([^ \t]++))?+[ \t]*+(.*+)\Z")
_NUMBER: Final = re.compile(
    r"[+-]?+(?:(?:[0-9]++\.?+[0-9]*+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?+)\Z"
)
_COMMENT: Final = re.compile(r"[ \t]*+#[ \t]*+(HELP|TYPE|UNIT)[ \t]++([^ \t]++)[ \t]*+(.*+)\Z")
_BLANK: Final = re.compile(r"[ \t]*+(?:#.*+)?\Z")
# How a line begins that is a sample, a comment or empty; the text ends behind its last line end.
_BEGINNING: Final = r"[ \t]*+(?:[a-zA-Z_:#\n]|\Z)"
_SAMPLE: Final = re.compile(r"\n[ \t]*+[a-zA-Z_:]")
_MOST_SAID: Final = 600
_ESCAPED: Final = re.compile(r"\\(.)")
_ESCAPES: Final = {"\\": "\\", '"': '"', "n": "\n"}
_WRONG_IN_HELP: Final = re.compile(r"(?:[^\\]|\\[\\n])*+(\\.?)")

# Which names a family of several samples has beside its own: text_parse.go, setOrCreateCurrentMF.
_ENDINGS: Final = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}


class BadText(FogmetricsError):
    """A text that is no exposition, or not one that can be served: the line, and what is wrong with it."""

    def __init__(self, line: int, reason: str) -> None:
        if len(reason) > _MOST_SAID:  # a name in it may be as long as the file
            reason = f"{reason[:_MOST_SAID]}…"
        super().__init__(f"line {line}: {reason}")
        self.line, self.reason = line, reason


class Point(NamedTuple):
    """One line with a value: the name that stands there, its labels as they come. A text has no timestamps."""

    name: str
    labels: dict[str, str]
    value: float
    line: int
    timestamp: float | None = None


@dataclass(slots=True)
class Family:
    """All that a text says of one metric. ``kind``: of KINDS; ``help`` is None where none is given."""

    name: str
    kind: str = "untyped"
    help: str | None = None
    unit: str = ""
    points: list[Point] = field(default_factory=list)
    typed: bool = False


def parse(text: str) -> list[Family]:
    """The families that have samples, in the order in which they come up. Raises BadText. Pure."""
    families: dict[str, Family] = {}
    # Not splitlines(), which also splits where the format does not, as at U+2028.
    lines = text.split("\n")
    if lines.pop():
        raise BadText(
            len(lines) + 1,
            "the end of the last line is missing, as in a file that is still being written; write under another name, "
            "then rename it",
        )
    for number, line in enumerate(lines, 1):
        if _BLANK.match(line):
            _comment(families, line, number)
            continue
        point = _point(line, number, timestamps=False)
        _family(families, point.name).points.append(point)
    return [family for family in families.values() if family.points]


def read_samples(text: str, wanted: Collection[str]) -> Iterator[Point]:
    """The samples of the names that are ``wanted``, with or without a timestamp. Raises BadText. Pure."""
    text = f"\n{text}"  # each line begins with a line end, for which the regular expression can search
    if not text.endswith("\n"):
        raise BadText(text.count("\n"), "it breaks off in mid-line")
    if text.count("\n") > MAX_LINES:
        raise BadText(MAX_LINES, f"it has more than {MAX_LINES} lines")
    names = "|".join(map(re.escape, wanted))
    number = position = 0
    for found in re.finditer(rf"\n(?:([ \t]*+(?:{names})(?![a-zA-Z0-9_:])[^\n]*+)|(?!{_BEGINNING}))", text):
        number += text.count("\n", position, found.end())
        position = found.end()
        line = found[1] or text[position : text.index("\n", position)]
        yield _point(line, number, timestamps=True)
    if not _SAMPLE.search(text):
        raise BadText(1, "it has no samples")


def _family(families: dict[str, Family], sample: str) -> Family:
    """The one that a sample of that name belongs to."""
    if sample in families:
        return families[sample]
    for ending in _ENDINGS["histogram"]:
        base = families.get(sample.removesuffix(ending)) if sample.endswith(ending) else None
        if base is not None and ending in _ENDINGS.get(base.kind, ()):
            return base
    return families.setdefault(sample, Family(sample))


def _comment(families: dict[str, Family], line: str, number: int) -> None:
    found = _COMMENT.match(line)
    if not found:
        return
    word, name, rest = found.groups()
    if not _NAME.match(name):
        raise BadText(number, f"{word} is of {shown(name)}, which is no metric name")
    family = families.setdefault(name, Family(name))
    if word == "HELP":
        if family.help is not None:
            raise BadText(number, f"a second HELP of {name}; leave one of them")
        family.help = _help(rest, number)
    elif word == "UNIT":
        family.unit = rest.strip(" \t")
    else:
        kind = rest.strip(" \t").lower()
        if kind not in KINDS:
            raise BadText(number, f"the type of {name} is {shown(kind)}; give one of {', '.join(KINDS)}")
        if family.typed:
            raise BadText(number, f"a second TYPE of {name}; leave one of them")
        if family.points:
            raise BadText(number, f"the TYPE of {name} is behind its samples; put it before them")
        family.typed, family.kind = True, kind


def _help(text: str, number: int) -> str:
    if "\\" not in text:
        return text
    wrong = _WRONG_IN_HELP.match(text)
    if wrong:
        raise BadText(number, f"the escape {wrong[1]} in a HELP; the escapes there are \\\\ and \\n")
    return _ESCAPED.sub(_unescaped, text)


def _unescaped(found: re.Match[str]) -> str:
    return _ESCAPES[found[1]]


def _point(line: str, number: int, *, timestamps: bool) -> Point:
    begun = _BEGUN.match(line)
    if not begun:
        raise BadText(number, f"it does not begin with a metric name: {shown(line)}")
    name, brace = begun.groups()
    at = begun.end()
    labels: dict[str, str] = {}
    if brace:
        at = _labels(labels, line, at, number)
    elif begun.end(1) == at < len(line):
        raise BadText(number, f"behind the metric name {name} stands {shown(line[at])}; put a blank or labels there")
    found = _VALUE.match(line, at)
    if not found:
        raise BadText(number, f"there is no value behind {name}")
    written, stamp, more = found.groups()
    if stamp is not None and (more or not _NUMBER.match(stamp)):
        raise BadText(number, f"behind the value of {name} stands {shown(stamp)}; end the line there")
    if stamp is not None and not timestamps:
        raise BadText(
            number, f"{name} has the timestamp {shown(stamp)}; leave it out: a sample is of the time it is read"
        )
    return Point(name, labels, _number(written, number), number)


def _labels(labels: dict[str, str], line: str, at: int, number: int) -> int:
    """Read the labels from behind the brace on; where the line goes on behind them."""
    while pair := _PAIR.match(line, at):
        label, value, behind = pair.groups()
        if label in labels:
            raise BadText(number, f"the label {label} twice; leave one of them")
        labels[label] = _ESCAPED.sub(_unescaped, value) if "\\" in value else value
        at = pair.end()
        if behind == "}":
            return at
    if closed := _CLOSED.match(line, at):  # no labels, or a comma behind the last one
        return closed.end()
    raise BadText(number, f'its labels can\'t be read from {shown(line[at:])}; write {{name="value",…}}')


def to_number(written: str) -> float | None:
    """A number as the format writes it, NaN included; None for anything else."""
    if _NUMBER.match(written):
        return float(written)
    return math.nan if written.lower() == "nan" else None


def _number(written: str, line: int) -> float:
    value = to_number(written)
    if value is None:
        raise BadText(line, f"the value {shown(written)} is no number; write one such as 17, 1.5e-3, +Inf or NaN")
    if math.isinf(value) and written.lower().lstrip("+-")[0] != "i":
        raise BadText(line, f"the value {shown(written)} is beyond float64; write +Inf if that is meant")
    return value
