"""Choose the exposition format and the content coding of an answer (RFC 9110, sections 12.5.1 and 12.5.3).

    Accept: application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.3,*/*;q=0.2
            └ element ──────────────────────────────────────────────────────────┘ └ element ─────┘ └ range ┘

Every client reads text 0.0.4, so it is the default: for a missing header, for wildcards and for invalid headers.
OpenMetrics is sent to clients that name it, in a supported version, and do not prefer text. ``escaping`` says how the
client takes names beyond the classic character set; without it, and with a scheme that is unknown, they have
underscores. Pure functions, linear in the length of the header.

https://prometheus.io/docs/instrumenting/content_negotiation/
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from enum import Enum
from typing import Final, NamedTuple

from exporter.exposition.names import Escaping

# Three decimals at most: RFC 9110, section 12.4.2. An element with an invalid weight is ignored.
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")

# The versions of each type that are served, and the one where none is named. 0.0.1 is Prometheus' name for drafts of
# OpenMetrics 1.0.0; text 1.0.0 is 0.0.4 with names in quotes: each pair has the same text.
_VERSIONS: Final = {"application/openmetrics-text": ("1.0.0", "0.0.1"), "text/plain": ("0.0.4", "1.0.0")}
_RANGES: Final = ("text/*", "*/*")
_CACHED: Final = 16  # results: a Prometheus server sends the same headers with every scrape


# What a Prometheus server allows for the scrape, in seconds.
TIMEOUT_HEADER: Final = "x-prometheus-scrape-timeout-seconds"


class Format(Enum):
    """The syntax of a page; the value is its media type."""

    TEXT = "text/plain"
    OPENMETRICS = "application/openmetrics-text"

    @property
    def end(self) -> bytes:
        """What a page of this format ends with."""
        return b"# EOF\n" if self is Format.OPENMETRICS else b""


class Negotiated(NamedTuple):
    """What a client gets."""

    form: Format = Format.TEXT
    version: str = "0.0.4"
    escaping: Escaping = Escaping.UNDERSCORES

    @property
    def content_type(self) -> str:
        # Clients that know text 0.0.4 alone expect no further parameter.
        scheme = "" if self == Negotiated() else f"; escaping={self.escaping.value}"
        return f"{self.form.value}; version={self.version}; charset=utf-8{scheme}"


class _Offer(NamedTuple):
    weight: float
    served: Negotiated


@functools.lru_cache(_CACHED)
def negotiate(accept: str) -> Negotiated:
    """The format for this Accept header: the one with the greatest weight above 0; of equal ones OpenMetrics."""
    offers: list[_Offer] = []
    ranges: dict[str, float] = {}
    for kind, parameters, weight in _elements(accept):
        if kind in _RANGES:
            ranges[kind] = max(ranges.get(kind, 0.0), weight)
        elif kind in _VERSIONS:
            version = parameters.get("version") or _VERSIONS[kind][0]
            if version in _VERSIONS[kind]:
                served = Negotiated(Format(kind), version, _escaping(parameters.get("escaping", "")))
                offers.append(_Offer(weight, served))
    if not any(one.served.form is Format.TEXT for one in offers):
        # The most specific range decides: "text/plain;q=0.1, */*" wants text at 0.1.
        offers.append(_Offer(ranges.get("text/*", ranges.get("*/*", 0.0)), Negotiated()))
    best = max(offers, key=lambda one: (one.weight, one.served.form is Format.OPENMETRICS))  # the first of equals
    return best.served if best.weight > 0 else Negotiated()


def _escaping(scheme: str) -> Escaping:
    try:
        return Escaping(scheme)
    except ValueError:
        return Escaping.UNDERSCORES


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
