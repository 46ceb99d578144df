"""Write names of metrics and labels: as they are, in quotes, or escaped for clients that take only classic names.

A classic name has letters, digits, "_" and, in metrics, ":", and does not begin with a digit. It is written as it is.
Others, for example http.requests, by what the client allows:

    allow-utf-8    {"http.requests",label="v"}
    underscores    http_requests
    dots           http_dot_requests
    values         U__http_2e_requests

https://prometheus.io/docs/instrumenting/escaping_schemes/. Where that page and client_golang differ, as in the scheme
dots for characters other than dots, this is what client_golang writes. The endings of the samples of histograms and
summaries are not escaped; the one of counters, which is part of the name, is.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from enum import Enum
from typing import Final

from shm.metric import Metric, escape_label, label_set

_BEYOND: Final = r"\A[0-9]|[^a-zA-Z0-9_:]"
_BEYOND_IN_LABELS: Final = r"\A[0-9]|[^a-zA-Z0-9_]"
_CACHED: Final = 4096  # names; a page has the same labels in many lines


class Escaping(Enum):
    """How names beyond the classic ones are written; the value is its name in the headers Accept and Content-Type."""

    ALLOW_UTF_8 = "allow-utf-8"
    UNDERSCORES = "underscores"
    DOTS = "dots"
    VALUES = "values"


@functools.lru_cache(_CACHED)
def escaped(name: str, escaping: Escaping, beyond: str = _BEYOND) -> str:
    """The metric's name in that scheme, without quotes. ``beyond``: a pattern of the characters that are escaped."""
    if escaping is Escaping.ALLOW_UTF_8 or not re.search(beyond, name):
        return name
    if escaping is Escaping.UNDERSCORES:
        return re.sub(beyond, "_", name)
    if escaping is Escaping.DOTS:
        return re.sub(f"_|{beyond}", lambda one: "_dot_" if one[0] == "." else "__", name)
    return "U__" + re.sub(f"_|{beyond}", lambda one: "__" if one[0] == "_" else f"_{ord(one[0]):x}_", name)


def escaped_label(name: str, escaping: Escaping) -> str:
    """The name of a label by that scheme, without quotes. It never begins with "__", as Prometheus' own labels do."""
    return re.sub("^__+", "_", escaped(name, escaping, _BEYOND_IN_LABELS))


def is_classic(name: str) -> bool:
    return escaped(name, Escaping.VALUES) == name


@functools.lru_cache(_CACHED)
def is_classic_label(name: str) -> bool:
    return escaped_label(name, Escaping.VALUES) == name


def stem(family: str, kind: str, escaping: Escaping) -> str:
    """The name of a family by that scheme, without quotes, and without the ``_total`` of a counter."""
    if kind == "counter":
        return escaped(f"{family}_total", escaping).removesuffix("_total")
    return escaped(family, escaping)


def spellings(metric: Metric) -> Iterable[str]:
    """All names that samples of the metric may have on any page, by any scheme; first those without escapes."""
    names = metric.sample_names
    if is_classic(metric.family):
        return names
    endings = [name.removeprefix(metric.family) for name in names]
    stems = [stem(metric.family, kind, one) for one in Escaping for kind in (metric.type, "gauge")]  # on both pages
    return dict.fromkeys([*names, *(f"{one}{ending}" for one in stems for ending in endings)])


@functools.lru_cache(_CACHED)
def label_spellings(label: str) -> frozenset[str]:
    """All names that the label may have on any page, by any scheme."""
    return frozenset(escaped_label(label, one) for one in Escaping)


def with_escaped(names: Iterable[str]) -> set[str]:
    """The names, and each with underscores, as it is on a page without quotes."""
    return {spelling for name in names for spelling in (name, escaped(name, Escaping.UNDERSCORES))}


def quoted(name: str, *, label: bool = False) -> str:
    """A name as it is, in quotes unless it is classic."""
    classic = is_classic_label(name) if label else is_classic(name)
    return name if classic else f'"{escape_label(name)}"'


def series_text(family: str, kind: str, ending: str, labels: Iterable[tuple[str, str]], escaping: Escaping) -> str:
    """The name of a sample and its labels, as both text formats have them. ``ending``: of the name, after its family's.

    Labels in order; their names, too, are by the scheme.
    """
    if escaping is not Escaping.ALLOW_UTF_8:
        pairs = ((escaped_label(name, escaping), value) for name, value in labels)
        return f"{stem(family, kind, escaping)}{ending}{label_set(pairs)}"
    text = label_set((quoted(name, label=True), value) for name, value in labels)
    name = quoted(f"{family}{ending}")
    if not name.startswith('"'):
        return f"{name}{text}"
    return f"{{{name},{text[1:-1]}}}" if text else f"{{{name}}}"
