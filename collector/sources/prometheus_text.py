"""A strict parser of Prometheus text 0.0.4, for files of the source textfile and for pages of other programs.

    # HELP jobs_total Jobs done.            text, with the escapes \\\\ and \\n
    # TYPE jobs_total counter               counter, gauge, histogram, summary or untyped
    # UNIT jobs_seconds seconds             a plain comment to other parsers; the unit here
    jobs_total{queue="a",path="C:\\\\x"} 17   name, labels (escapes \\\\ \\" \\n), value
    {"jobs.total","the queue"="a"} 17       names beyond the classic character set, in quotes

https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format. Where the format leaves choices, this
parser agrees with Prometheus' own (prometheus/common, expfmt/text_parse.go), or is stricter, so that mistakes are
reported: a value is a decimal number, Inf or NaN, in any case; the last line must end with a newline, which a partly
written file rarely has; HELP and TYPE occur once, TYPE before the samples.

    parse(text)                   all families. One with a timestamp is wrong: a sample of a file has the time at which
                                  the file is read, and with another time would never be stale
    read_samples(text, wanted)    the samples of some names. One regular expression over the whole page skips other
                                  lines and reads only their beginnings: twice as fast as line by line
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shm.errors import FogmetricsError
from shm.safe_repr import shown

# Limit of read_samples(): 4 MiB hold some 60,000 samples, or 4,000,000 empty lines.
MAX_LINES: Final = 200_000
KINDS: Final = ("counter", "gauge", "histogram", "summary", "untyped")
# The further types of OpenMetrics, and what a text without them has instead.
OPENMETRICS_KINDS: Final = {"info": "gauge", "stateset": "gauge", "unknown": "untyped", "gaugehistogram": "untyped"}

# All quantifiers are possessive, so there is no backtracking, and the time is linear in the length of a line.
_NAME: Final = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*+\Z")
_QUOTED: Final = r'"(?:[^"\\]|\\[\\"n])*+"'
_BEGUN: Final = re.compile(rf"[ \t]*+(?:([a-zA-Z_:][a-zA-Z0-9_:]*+)[ \t]*+(\{{)?+|\{{[ \t]*+({_QUOTED})[ \t]*+([,}}]))")
_PAIR: Final = re.compile(rf"[ \t]*+([a-zA-Z_][a-zA-Z0-9_]*+|{_QUOTED})[ \t]*+=[ \t]*+({_QUOTED})[ \t]*+([,}}])")
_CLOSED: Final = re.compile(r"[ \t]*+\}")
_VALUE: Final = re.compile(r"[ \t]*+([^ \t]++)(?:[ \t]++([^ \t]++))?+[ \t]*+(.*+)\Z")
_NUMBER: Final = re.compile(
    r"[+-]?+(?:(?:[0-9]++\.?+[0-9]*+|\.[0-9]++)(?:[eE][+-]?+[0-9]++)?+|[iI][nN][fF](?:[iI][nN][iI][tT][yY])?+)\Z"
)
_COMMENT: Final = re.compile(rf"[ \t]*+#[ \t]*+(HELP|TYPE|UNIT)[ \t]++({_QUOTED}|[^ \t]++)[ \t]*+(.*+)\Z")
_BLANK: Final = re.compile(r"[ \t]*+(?:#.*+)?\Z")
# The beginning of a sample, a comment or an empty line; the text ends after its last newline.
_BEGINNING: Final = r'[ \t]*+(?:[a-zA-Z_:#\n]|\{[ \t]*+"|\Z)'
_SAMPLE: Final = re.compile(r"\n[ \t]*+[a-zA-Z_:{]")
_MOST_SAID: Final = 600
_ESCAPED: Final = re.compile(r"\\(.)")
_ESCAPES: Final = {"\\": "\\", '"': '"', "n": "\n"}
_WRONG_IN_HELP: Final = re.compile(r"(?:[^\\]|\\[\\n])*+(\\.?)")

# Endings of the sample names of a family, next to its own name: text_parse.go, setOrCreateCurrentMF.
_ENDINGS: Final = {"histogram": ("_bucket", "_sum", "_count"), "summary": ("_sum", "_count")}


class BadText(FogmetricsError, ValueError):
    """A mistake in a text: ``line`` and ``reason``."""

    def __init__(self, line: int, reason: str) -> None:
        if len(reason) > _MOST_SAID:  # a name in it may be as long as the file
            reason = f"{reason[:_MOST_SAID]}…"
        super().__init__(f"line {line}: {reason}")
        self.line, self.reason = line, reason


class Point(NamedTuple):
    """One sample: the name and labels as in the line, and its value. Points of a text have no timestamp."""

    name: str
    labels: dict[str, str]
    value: float
    line: int
    timestamp: float | None = None


@dataclass(slots=True)
class Family:
    """One metric of a text, with its samples. ``kind``: one of KINDS; ``help``: None if the text has none.

    ``wrong``: why none of its samples can be taken.
    """

    name: str
    kind: str = "untyped"
    help: str | None = None
    unit: str = ""
    points: list[Point] = field(default_factory=list)
    typed: bool = False
    wrong: BadText | None = None


def parse(text: str) -> list[Family]:
    """The families with samples, in order of appearance. Raises BadText. Pure."""
    families: dict[str, Family] = {}
    # Not splitlines(), which also splits where the format does not, as at U+2028.
    lines = text.split("\n")
    if lines.pop():
        raise BadText(
            len(lines) + 1,
            "the last line has no newline, as in a file that is still being written; write under another name, then "
            "rename it",
        )
    for number, line in enumerate(lines, 1):
        if _BLANK.match(line):
            _comment(families, line, number)
            continue
        point, stamp = _point(line, number)
        family = _family(families, point.name)
        family.points.append(point)
        if stamp is not None and family.wrong is None:
            family.wrong = BadText(
                number, f"{point.name} has the timestamp {shown(stamp)}; remove it: a sample has the time it is read"
            )
    return [family for family in families.values() if family.points]


def read_samples(text: str, wanted: Collection[str]) -> Iterator[Point]:
    """The samples with names in ``wanted``, with or without a timestamp. Raises BadText. Pure."""
    text = f"\n{text}"  # so that the regular expression can search for the newline before each line
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
        yield _point(line, number)[0]
    if not _SAMPLE.search(text):
        raise BadText(1, "it has no samples")


def _family(families: dict[str, Family], sample: str) -> Family:
    """The family of a sample with that name."""
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
    if name.startswith('"') and len(name) > 2:
        name = _unquoted(name)
    elif not _NAME.match(name):
        raise BadText(number, f"{word} is of {shown(name)}, which is not a metric name")
    family = families.setdefault(name, Family(name))
    if word == "HELP":
        if family.help is not None:
            raise BadText(number, f"a second HELP of {name}; remove one")
        family.help = _help(rest, number)
    elif word == "UNIT":
        family.unit = rest.strip(" \t")
    else:
        kind = rest.strip(" \t").lower()
        kind = OPENMETRICS_KINDS.get(kind, kind)
        if kind not in KINDS:
            raise BadText(number, f"the type of {name} is {shown(kind)}; give one of {', '.join(KINDS)}")
        if family.typed:
            raise BadText(number, f"a second TYPE of {name}; remove one")
        if family.points:
            raise BadText(number, f"the TYPE of {name} is after its samples; put it before them")
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


def _unquoted(text: str) -> str:
    """The text without its quotes and escapes."""
    return _ESCAPED.sub(_unescaped, text[1:-1]) if "\\" in text else text[1:-1]


def _point(line: str, number: int) -> tuple[Point, str | None]:
    """(the sample, its timestamp as it is written)."""
    begun = _BEGUN.match(line)
    if not begun:
        raise BadText(number, f"it does not begin with a metric name: {shown(line)}")
    name, brace, quoted, behind = begun.groups()
    at = begun.end()
    labels: dict[str, str] = {}
    if quoted:
        name = _unquoted(quoted)
    if brace or behind == ",":
        at = _labels(labels, line, at, number)
    elif not quoted and begun.end(1) == at < len(line):
        raise BadText(number, f"{shown(line[at])} follows the metric name {name}; put a space or labels there")
    found = _VALUE.match(line, at)
    if not found:
        raise BadText(number, f"there is no value after {name}")
    written, stamp, more = found.groups()
    if stamp is not None and (more or not _NUMBER.match(stamp)):
        raise BadText(number, f"{shown(stamp)} follows the value of {name}; end the line there")
    return Point(name, labels, _number(written, number), number), stamp


def _labels(labels: dict[str, str], line: str, at: int, number: int) -> int:
    """Read the labels after the opening brace into ``labels``; the position after the closing brace."""
    while pair := _PAIR.match(line, at):
        label, value, behind = pair.groups()
        if label.startswith('"'):
            label = _unquoted(label)
        if label in labels:
            raise BadText(number, f"the label {label} twice; remove one")
        labels[label] = _unquoted(value)
        at = pair.end()
        if behind == "}":
            return at
    if closed := _CLOSED.match(line, at):  # no labels, or a comma after the last one
        return closed.end()
    raise BadText(number, f'its labels can\'t be read from {shown(line[at:])}; write {{name="value",…}}')


def to_number(written: str) -> float | None:
    """Parse a number of the format, including NaN; None for any other text."""
    if _NUMBER.match(written):
        return float(written)
    return math.nan if written.lower() == "nan" else None


def _number(written: str, line: int) -> float:
    value = to_number(written)
    if value is None:
        raise BadText(line, f"the value {shown(written)} is not a number; write one such as 17, 1.5e-3, +Inf or NaN")
    if math.isinf(value) and written.lower().lstrip("+-")[0] != "i":
        raise BadText(line, f"the value {shown(written)} is beyond float64; write +Inf if that is meant")
    return value
