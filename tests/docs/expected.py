"""The tables that the documentation must hold, made from the code. ``python -m tests.docs.expected`` prints them all,
to be pasted after the code has changed.
"""

from __future__ import annotations

import dataclasses
import json
import re
import textwrap
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from collector import metrics
from collector.registry import BUILT_IN, options_class
from collector.settings import CollectorConfig, MetricConfig, SourceConfig
from collector.sources.deployment.prometheus_mapping import PrometheusOptions
from collector.sources.host import source as host
from exporter.settings import ExporterConfig
from fogmetrics.durations import Seconds, written
from fogmetrics.log import LogConfig
from fogmetrics.settings.reader import Glob, keys_of
from fogmetrics.settings.tables import ApplicationsConfig, ShmConfig
from shm.metric import Metric

_NAMES = {str: "string", int: "whole number", float: "number", bool: "true or false", Seconds: "duration", Glob: "glob"}
_TITLES = ("key", "type", "default", "bounds", "meaning")


def configuration() -> dict[str, str]:
    """Per table of the configuration, by its title in TOML: the documentation's table."""
    found: dict[str, type] = {
        "[shm]": ShmConfig,
        "[collector]": CollectorConfig,
        "[exporter]": ExporterConfig,
        "[applications]": ApplicationsConfig,
        "[log]": LogConfig,
        "[source.NAME]": SourceConfig,
        "[metric.NAME]": MetricConfig,
    }
    found |= {f"[source.{name}]": options_class(name) for name in BUILT_IN}
    found["[source.deployment.prometheus.NAME]"] = PrometheusOptions
    return {
        title: _table(_TITLES, (_row(name, one, cls) for name, one in keys_of(cls).items()))
        for title, cls in found.items()
        if keys_of(cls)
        if keys_of(cls)
    }


def _row(name: str, one: dataclasses.Field[Any], cls: type) -> tuple[str, ...]:
    rule, hint = one.metadata, typing.get_type_hints(cls, include_extras=True)[one.name]
    default: Any = {} if one.default is dataclasses.MISSING else one.default
    if hint == Seconds:
        default = written(default) if default else 0
    if rule.get("choices"):
        bounds = ", ".join(f"`{choice}`" for choice in rule["choices"] if choice)
    elif Seconds in (hint, *typing.get_args(hint)):
        bounds = f"{written(rule['low'])} to {written(rule['high'])}"
    elif rule.get("low") is not None:
        bounds = f"{rule['low']} to {rule['high']}"
    else:
        bounds = ""
    return (
        f"`{name}`",
        _kind(hint),
        f"`{toml(default)}`" if default is not None else "",
        bounds,
        rule["doc"],
    )


def _kind(hint: Any) -> str:
    if hint in _NAMES:
        return _NAMES[hint]
    of = [one for one in typing.get_args(hint) if one is not type(None)]
    if isinstance(hint, types.UnionType):
        return " or ".join(map(_kind, of))
    if typing.get_origin(hint) is tuple:
        return f"list of {_kind(of[0])}s"
    if typing.get_origin(hint) is Mapping:
        return f"table of {_kind(of[1])}s"
    if dataclasses.is_dataclass(of[0] if of else hint):
        return "table"
    return _NAMES[of[0] if of else hint]


def toml(value: object) -> str:
    """A default as it is written in the file."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)


def metric_table(some: Iterable[Metric]) -> str:
    """docs/metrics.md: name, type, unit, labels, meaning."""
    return _table(
        ("metric", "type", "unit", "labels", "meaning"),
        ((f"`{one.name}`", one.type, one.unit, _labels(one), one.help) for one in some),
    )


def readme_table() -> str:
    """README.md: the 15 metrics by source."""
    by_source: Mapping[str, tuple[Metric, ...]] = {
        "node": metrics.NODE,
        "deployment": metrics.DEPLOYMENT,
        "betanet": metrics.BETANET,
        "system": metrics.SYSTEM,
    }
    assert sum(by_source.values(), ()) == metrics.ALL
    return _table(
        ("source", "metric", "type", "unit", "labels"),
        (
            (source, f"`{one.name}`", one.type, one.unit, _labels(one))
            for source, some in by_source.items()
            for one in some
        ),
    )


def host_table() -> str:
    """docs/host.md: each family by group; those of meminfo under two patterns."""
    rows = []
    for group in host.load():
        for one in group.metrics:
            name, meaning = one.name, one.help
            if group.name == "meminfo":
                name = re.sub(r"(node_memory_(?:HugePages_)?)\w+?(_bytes)?$", r"\1NAME\2", name)
                meaning = re.sub(r"as \S+,", "as NAME,", meaning).replace("as NAME", f"as {_LINE[name]}")
            row = (group.name, f"`{name}`", one.type, one.unit, _labels(one), meaning)
            if row not in rows:
                rows.append(row)
    rows += [("", f"`{one.name}`", one.type, one.unit, _labels(one), one.help) for one in HOST_OWN]
    return _table(("group", "metric", "type", "unit", "labels", "meaning"), rows)


_LINE = {"node_memory_NAME_bytes": "NAME", "node_memory_HugePages_NAME": "HugePages_NAME"}
HOST_OWN = (host.DURATION, host.SUCCESS)


def host_memory() -> str:
    """docs/host.md: which NAME there are in node_memory_NAME_bytes and node_memory_HugePages_NAME."""
    [meminfo] = host.load(["meminfo"])
    names = [one.name.removeprefix("node_memory_") for one in meminfo.metrics]
    of_bytes = ", ".join(f"`{one.removesuffix('_bytes')}`" for one in names if one.endswith("_bytes"))
    pages = ", ".join(f"`{one.removeprefix('HugePages_')}`" for one in names if not one.endswith("_bytes"))
    text = (
        f"NAME in `node_memory_NAME_bytes` is one of {of_bytes}; in `node_memory_HugePages_NAME` of {pages}: those "
        "that the kernel has."
    )
    return textwrap.fill(text, 118, break_long_words=False, break_on_hyphens=False) + "\n"


def _labels(metric: Metric) -> str:
    return ", ".join(f"`{label}`" for label in metric.label_names)


def _table(titles: Iterable[str], rows: Iterable[tuple[str, ...]]) -> str:
    head = list(titles)
    lines = [head, *(list(row) for row in rows)]
    text = ["|" + "|".join(f" {cell} " if cell else " " for cell in line) + "|" for line in _escaped(lines)]
    return "\n".join([text[0], "|" + "---|" * len(head), *text[1:]]) + "\n"


def _escaped(lines: list[list[str]]) -> list[list[str]]:
    return [[cell.replace("|", "\\|") for cell in line] for line in lines]


def everything() -> dict[str, str]:
    """Each table by what it is of."""
    return {
        **configuration(),
        "the 15 metrics": metric_table(metrics.ALL),
        "the textfile source's metrics": metric_table(metrics.TEXTFILE),
        "the collectors' own metrics": metric_table((*metrics.OWN, *metrics.OPTIONAL)),
        "README.md": readme_table(),
        "docs/host.md": host_table() + "\n" + host_memory(),
    }


if __name__ == "__main__":
    for title, table in everything().items():
        print(f"{title}\n\n{table}")
