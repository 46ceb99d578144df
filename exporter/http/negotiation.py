"""Choose the exposition format and the content coding of an answer (RFC 9110, sections 12.5.1 and 12.5.3).

    Accept: application/openmetrics-text;version=1.0.0;q=0.6, text/plain;version=0.0.4;q=0.3, */*;q=0.2
            └ element ──────────────────────────────────────┘ └ element ────────────────────┘ └ range ┘

Every client reads text 0.0.4, so it is the default: for a missing header, for wildcards and for invalid headers.
OpenMetrics is sent to clients that name it, in a supported version, and do not prefer text. Pure functions, linear in
the length of the header.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from enum import Enum
from typing import Final

# Three decimals at most: RFC 9110, section 12.4.2. An element with an invalid weight is ignored.
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")

# Empty: no version given. 0.0.1 is Prometheus' name for drafts of 1.0.0, which have the same text.
_OPENMETRICS_VERSIONS: Final = frozenset({"", "1.0.0", "0.0.1"})
_TEXT_VERSIONS: Final = frozenset({"", "0.0.4"})
_CACHED: Final = 16  # results: a Prometheus server sends the same headers with every scrape


# What a Prometheus server allows for the scrape, in seconds.
TIMEOUT_HEADER: Final = "x-prometheus-scrape-timeout-seconds"


class Format(Enum):
    """An exposition format; the value is its Content-Type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

    @property
    def end(self) -> bytes:
        """What a page of this format ends with."""
        return b"# EOF\n" if self is Format.OPENMETRICS else b""


@functools.lru_cache(_CACHED)
def choose_format(accept: str) -> Format:
    """The format for this Accept header: OpenMetrics if its weight is above 0 and at least that of text."""
    openmetrics = 0.0
    text: dict[str, float] = {}
    for kind, parameters, weight in _elements(accept):
        version = parameters.get("version", "")
        if kind == "application/openmetrics-text" and version in _OPENMETRICS_VERSIONS:
            openmetrics = max(openmetrics, weight)
        elif kind in ("text/*", "*/*") or (kind == "text/plain" and version in _TEXT_VERSIONS):
            text[kind] = max(text.get(kind, 0.0), weight)
    # The most specific range decides: "text/plain;q=0.1, */*" wants text at 0.1.
    plain = text.get("text/plain", text.get("text/*", text.get("*/*", 0.0)))
    return Format.OPENMETRICS if openmetrics > 0 and openmetrics >= plain else Format.TEXT


@functools.lru_cache(_CACHED)
def accepts_gzip(accept_encoding: str) -> bool:
    """True if this Accept-Encoding header allows gzip: by name, or by ``*`` if gzip is not named."""
    weights: dict[str, float] = {}
    for coding, _, weight in _elements(accept_encoding):
        weights["gzip" if coding == "x-gzip" else coding] = weight
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _elements(header: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """Each element's value, parameters and weight, in lower case; elements with an invalid weight are left out.

    Commas and semicolons inside quoted strings split too: no parameter that is used here contains any.
    """
    for element in header.lower().split(","):
        value, *rest = element.split(";")
        parameters: dict[str, str] = {}
        for one in rest:
            name, _, text = one.partition("=")
            parameters[name.strip(" \t")] = text.strip(" \t").strip('"')
        weight = parameters.get("q", "1")
        if _WEIGHT.fullmatch(weight):
            yield value.strip(" \t"), parameters, float(weight)
