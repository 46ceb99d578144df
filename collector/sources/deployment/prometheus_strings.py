"""Converts the old spelling of pages for Prometheus, two lists of strings, to the present tables.

    prometheus = ["shop http://localhost:8000/metrics"]
    prometheus_mappings = ["shop deployment_id=service requests=a_total errors=a_total{code=5*,method=*}+b_total"]

Each page becomes a table with the name of its mapping; a second page of one mapping has a number after the name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from collector.sources.deployment.prometheus_mapping import READY, SCHEMES, table_of
from collector.sources.target import parse_address
from fogmetrics.settings.reader import toml_key
from shm.errors import ConfigurationError

_PAGES, _MAPPINGS = "[source.deployment] prometheus", "[source.deployment] prometheus_mappings"
_REMEDY = f"write it as a table, such as {table_of('shop')}, by docs/configuration.md"
_SERIES: Final = re.compile(r"([^{}+]+)(?:\{([^{}]*)\})?(?:\+(?!\Z)|\Z)")


def modernized(table: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
    """Convert [source.deployment]: (the table with present keys, a note per page). Raises ConfigurationError."""
    pages, own = table.get("prometheus", []), table.get("prometheus_mappings", [])
    if not isinstance(own, list) or not all(isinstance(one, str) for one in (*pages, *own)):
        return table, ()  # refused later by read_table()
    tables = _tables(pages, own)
    rest = {name: value for name, value in table.items() if name != "prometheus_mappings"}
    notes = (f"{_PAGES} is a list of strings, the old spelling; write {_toml(name, tables[name])}" for name in tables)
    return {**rest, "prometheus": tables}, tuple(notes)


def _tables(pages: Iterable[str], mappings: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The tables by name. Raises ConfigurationError, which shows no address, since it may contain a password."""
    own = dict(map(_mapping, mappings))
    tables: dict[str, dict[str, Any]] = {}
    for number, page in enumerate(pages, 1):
        mapping, _, url = page.strip().partition(" ")
        if not url.strip() or mapping not in (*READY, *own):
            raise ConfigurationError(f"{_PAGES} begins entry {number} with no mapping, or has no address; {_REMEDY}")
        name = mapping if mapping not in tables else f"{mapping}_{number}"
        tables[name] = {"url": url.strip(), **own.get(mapping, {} if name == mapping else {"mapping": mapping})}
    return tables


def _mapping(text: str) -> tuple[str, dict[str, Any]]:
    name, *words = text.split() or [""]
    table: dict[str, Any] = {}
    for word in words:
        part, _, value = word.partition("=")
        if part in table or not value:
            raise ConfigurationError(f"{_MAPPINGS} has {text!r}, in which {word!r} is no part; {_REMEDY}")
        if part in ("deployment_id", "until"):
            table[part] = value
        else:
            series = list(_series(value, text))
            table[part] = series[0] if part.startswith("latency") and len(series) == 1 else series
    return name, table


def _series(value: str, text: str) -> Iterable[dict[str, Any]]:
    position = 0
    while position < len(value):
        match = _SERIES.match(value, position)
        if match is None:
            raise ConfigurationError(f"{_MAPPINGS} has {text!r}, in which {value!r} names no series; {_REMEDY}")
        pairs = [pair.partition("=") for pair in (match[2] or "").split(",") if pair]
        labels = {"labels": {label: glob for label, _, glob in pairs}} if pairs else {}
        yield {"name": match[1], **labels}
        position = match.end()


def _toml(name: str, table: Mapping[str, Any]) -> str:
    """The table in one line for a message, its address without a password."""
    url = parse_address(table["url"], _PAGES, schemes=SCHEMES).shown
    return f"{table_of(name)} {', '.join(f'{one} = {_value(value)}' for one, value in {**table, 'url': url}.items())}"


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{toml_key(one)} = {_value(each)}' for one, each in value.items())}}}"
    return json.dumps(value, ensure_ascii=False)
