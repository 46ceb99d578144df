"""Parse request parameters into queries. Pure functions, linear in the length of any request.

    both                 name[]=NAME …  source[]=SOURCE …  collect[]=GROUP …  exclude[]=GROUP …
    /metrics             timestamps=counters|all|none
    /metrics/aggregated  window=5m  stat=avg,p95 …  match[]=SELECTOR …  by=LABEL

    SELECTOR   NAME | [NAME] { MATCHER , … }        a series is chosen if any match[] matches it
    MATCHER    LABEL = "value" | LABEL != "value"   a selector matches if all its matchers do; a missing label = ""
               | "NAME"                             a name beyond the classic ones; so may LABEL be, and that of by=

The syntax is PromQL's without regular expressions: a hostile pattern could stall the exporter.
Every error is a QueryError, a mistake of the client: HTTP status 400.
"""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

from exporter.settings import TIMESTAMPS
from exporter.window.statistics import COUNTER_STATS, STATS
from fogmetrics.durations import parse_duration
from shm.errors import FogmetricsError
from shm.safe_repr import shown

ALL_STATS: Final = (*STATS, *COUNTER_STATS)

# A hostile request of these sizes against 1,000 series costs 50 ms.
MAX_SELECTOR: Final = 4_096  # characters
MAX_SELECTORS: Final = 64
MAX_MATCHERS: Final = 256  # of all selectors together
MAX_NAMES: Final = 256  # of each of metric, name[] and source[]
# metric and source: what name[] and source[] were called on this page.
AGGREGATED: Final = (
    "window", "name[]", "stat", "match[]", "by", "source[]", "collect[]", "exclude[]", "metric", "source",
)  # fmt: skip
_ESCAPES: Final = dict(zip("\\\"'ntrabfv", "\\\"'\n\t\r\a\b\f\v", strict=True))

# Each matches at one position without backtracking, so no input makes it slow.
_SPACE = re.compile(r"[ \t\r\n]*+")
_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*+")
_ONE = re.compile(r"[^,\s]+")  # not several
_ANY = re.compile(r".+", re.DOTALL)
_OPERATOR = re.compile(r"=~|!~|!=|=")
_STRING = re.compile(r""""((?:[^"\\]|\\.)*+)"|'((?:[^'\\]|\\.)*+)'""", re.DOTALL)
_NO_OCTET = re.compile(rb"%(?![0-9a-fA-F]{2})[^=]{0,2}")
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))", re.DOTALL)


class QueryError(FogmetricsError, ValueError):
    """An invalid request; the message names the rule and the remedy. HTTP status 400."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """``label = value``, or ``label != value`` if ``equal`` is false. ``__name__`` is the metric's name."""

    label: str
    value: str
    equal: bool = True

    def fits(self, names: Set[str], labels: Mapping[str, str]) -> bool:
        if self.label == "__name__":
            return (self.value in names) is self.equal
        return (labels.get(self.label, "") == self.value) is self.equal


Selector = tuple[Matcher, ...]  # all must match


@dataclass(frozen=True, slots=True)
class MetricsQuery:
    """Parameters of /metrics; empty = everything. ``timestamps``: one of TIMESTAMPS."""

    names: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    collect: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    timestamps: str = "none"


@dataclass(frozen=True, slots=True)
class AggregatedQuery:
    """Parameters of /metrics/aggregated: ``stats`` in the order of ALL_STATS; other empty tuples = everything."""

    window_ns: int
    metrics: tuple[str, ...] = ()
    stats: tuple[str, ...] = ALL_STATS
    matchers: tuple[Selector, ...] = ()
    by: str | None = None
    sources: tuple[str, ...] = ()
    collect: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def asks(self) -> bool:
        """True if the request chooses series, by metric, selector, source or group."""
        return bool(self.metrics or self.matchers or self.sources or self.collect)

    def selects(self, names: Set[str], labels: Mapping[str, str]) -> bool:
        """True if ``metric`` and ``match[]`` choose this series. ``names``: all names of its metric."""
        if self.metrics and names.isdisjoint(self.metrics):
            return False
        return not self.matchers or any(all(one.fits(names, labels) for one in some) for some in self.matchers)


def parse_query_string(raw: bytes) -> list[tuple[str, str]]:
    """The decoded pairs of a URL's query, in order. Raises QueryError if it is not percent-encoded UTF-8.

    Replacing bad bytes by U+FFFD, as browsers do, would give a name that matches nothing: an unexplained empty page.
    """
    pairs: list[tuple[str, str]] = []
    for part in raw.split(b"&"):
        if bad := _NO_OCTET.search(part):
            raise QueryError(
                f"{_shown_bytes(part)} has {_shown_bytes(bad[0])}; write % as %25, or give two hexadecimal digits "
                "after it"
            )
        try:
            pairs += urllib.parse.parse_qsl(part.decode(), keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise QueryError(f"{_shown_bytes(part)} is not UTF-8; write é, for example, as %C3%A9") from None
    return pairs


def parse_metrics_query(params: Iterable[tuple[str, str]], default_timestamps: str = "none") -> MetricsQuery:
    """The query of /metrics from decoded pairs. Raises QueryError."""
    given = _grouped(params, ("name[]", "source[]", "collect[]", "exclude[]", "timestamps"))
    timestamps = _once(given, "timestamps") or default_timestamps
    if timestamps not in TIMESTAMPS:
        raise QueryError(f"timestamps={shown(timestamps)} is unknown; use {', '.join(TIMESTAMPS)}")
    return MetricsQuery(
        _names(given, _ONE, "name[]"),
        _names(given, _ANY, "source[]"),
        _names(given, _ANY, "collect[]"),
        _names(given, _ANY, "exclude[]"),
        timestamps,
    )


def parse_aggregated_query(params: Iterable[tuple[str, str]], default_window_ns: int) -> AggregatedQuery:
    """The query of /metrics/aggregated from decoded pairs. Raises QueryError."""
    given = _grouped(params, AGGREGATED)
    window, by = _once(given, "window"), _once(given, "by")
    if by is not None:
        by = _label(by)
    texts = given.get("match[]", [])
    if len(texts) > MAX_SELECTORS:
        raise QueryError(f"match[] is given {len(texts)} times; at most {MAX_SELECTORS}")
    matchers = tuple(dict.fromkeys(parse_selector(text) for text in texts))
    if sum(map(len, matchers)) > MAX_MATCHERS:
        raise QueryError(f"match[] holds {sum(map(len, matchers))} matchers; at most {MAX_MATCHERS} together")
    return AggregatedQuery(
        window_ns=default_window_ns if window is None else parse_window(window),
        metrics=_names(given, _ONE, "name[]", "metric"),
        stats=_stats(given.get("stat", [])),
        matchers=matchers,
        by=by,
        sources=_names(given, _ANY, "source[]", "source"),
        collect=_names(given, _ANY, "collect[]"),
        exclude=_names(given, _ANY, "exclude[]"),
    )


def _label(by: str) -> str:
    """The label of by=, which may be in quotes. Raises QueryError."""
    string = _STRING.fullmatch(by)
    label = _content(string) if string else by
    if not label or label.startswith("__") or not (string or (_NAME.fullmatch(label) and ":" not in label)):
        raise QueryError(f"by={shown(by)} is not a label name; give one label, such as by=node_id")
    return label


def parse_window(text: str) -> int:
    """Nanoseconds of a Prometheus duration (``5m``, ``1h30m``) or of a bare number of seconds (``90``, ``0.5``).

    Greater than 0 and at most 100 years. Raises QueryError.
    """
    try:
        return parse_duration(text)
    except ValueError as error:
        raise QueryError(f"window={shown(text)} {error}") from None


def parse_selector(text: str) -> Selector:
    """The matchers of one ``match[]``; a bare name is a matcher of ``__name__``. Raises QueryError."""
    if len(text) > MAX_SELECTOR:
        raise QueryError(
            f"match[]={shown(text)} has {len(text)} characters; at most {MAX_SELECTOR}: split it into several match[]"
        )
    matchers: list[Matcher] = []
    position = _skip(text, 0)
    if name := _NAME.match(text, position):
        matchers.append(Matcher("__name__", name[0]))
        position = _skip(text, name.end())
    if text[position : position + 1] == "{":
        position = _skip(text, position + 1)
        while text[position : position + 1] != "}":
            matcher, position = _matcher(text, position)
            matchers.append(matcher)
            if text[position : position + 1] == ",":
                position = _skip(text, position + 1)
            elif text[position : position + 1] != "}":
                raise _bad_selector(text, position, "expected ',' or '}'")
        position = _skip(text, position + 1)
    elif not matchers:
        raise _bad_selector(text, position, "expected a metric name or '{'")
    if position != len(text):
        raise _bad_selector(text, position, "expected the end of the selector")
    return tuple(matchers)


def _matcher(text: str, position: int) -> tuple[Matcher, int]:
    """The matcher at ``position``, and the position of the next token."""
    name = _NAME.match(text, position) or _STRING.match(text, position)
    if name is None or (name.re is _NAME and ":" in name[0]):
        raise _bad_selector(text, position, "expected a label name")
    label = name[0] if name.re is _NAME else _content(name)
    if label == "stat":
        raise QueryError(f"match[]={shown(text)} matches 'stat'; choose statistics with the parameter stat=")
    position = _skip(text, name.end())
    operator = _OPERATOR.match(text, position)
    if operator is None and name.re is _STRING:
        return Matcher("__name__", label), position
    if operator is None:
        raise _bad_selector(text, position, "expected = or !=")
    if operator[0].endswith("~"):
        raise QueryError(
            f"match[]={shown(text)} has {operator[0]}; regular expressions are not supported, because a hostile "
            "pattern could stall the exporter: repeat match[] with = for each value"
        )
    position = _skip(text, operator.end())
    string = _STRING.match(text, position)
    if string is None:
        raise _bad_selector(text, position, "expected a value in quotes")
    return Matcher(label, _content(string), operator[0] == "="), _skip(text, string.end())


def _content(string: re.Match[str]) -> str:
    """What a match of _STRING has between its quotes."""
    return _ESCAPE.sub(_unescaped, string[1] if string[1] is not None else string[2])


def _unescaped(escape: re.Match[str]) -> str:
    if escape[3] is None:
        code = int(escape[1] or escape[2], 16)
        if code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF:
            return chr(code)
    elif escape[3] in _ESCAPES:
        return _ESCAPES[escape[3]]
    raise QueryError(f"match[] has the unknown escape {shown(escape[0])}; use \\\\, \\\", \\', \\n or \\uXXXX")


def _skip(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return space.end() if space else position


def _bad_selector(text: str, position: int, expected: str) -> QueryError:
    found = shown(text[position : position + 20]) if position < len(text) else "the end"
    return QueryError(
        f'match[]={shown(text)}: {expected} at character {position + 1}, found {found}; write NAME{{LABEL="value"}}'
    )


def _grouped(params: Iterable[tuple[str, str]], allowed: Sequence[str]) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for key, value in params:
        if key not in allowed:
            raise QueryError(f"parameter {shown(key)} is unknown; use {', '.join(allowed)}")
        given.setdefault(key, []).append(value)
    return given


def _once(given: Mapping[str, list[str]], key: str) -> str | None:
    values = given.get(key, [])
    if len(values) > 1:
        raise QueryError(f"{key}={shown(values[0])} is one of {len(values)} values of {key}; give it once")
    return values[0] if values else None


def _stats(texts: Iterable[str]) -> tuple[str, ...]:
    asked = {stat.strip(" ") for text in texts for stat in text.split(",")}
    if unknown := asked.difference(ALL_STATS):
        raise QueryError(f"stat={shown(min(unknown))} is unknown; use {', '.join(ALL_STATS)}")
    return tuple(stat for stat in ALL_STATS if stat in asked) or ALL_STATS


def _names(given: Mapping[str, list[str]], rule: re.Pattern[str], *keys: str) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for key in keys:
        names |= dict.fromkeys(given.get(key, []))
        if len(names) > MAX_NAMES:
            raise QueryError(f"{key} is given {len(names)} times; at most {MAX_NAMES}")
        for name in given.get(key, []):
            if not rule.fullmatch(name):
                raise QueryError(f"{key}={shown(name)} is not a name; repeat {key} for several, or leave it out")
    return tuple(names)


def _shown_bytes(text: bytes) -> str:
    return shown(text[:200].decode("ascii", "backslashreplace"))
