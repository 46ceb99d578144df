"""Matches metrics with tables [metric.NAME], where NAME is a metric's name or a glob. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase

from fogmetrics.settings.reader import toml_key
from shm.metric import Metric

_GLOB_MARKS = frozenset("*?[")


def is_glob(name: str) -> bool:
    """Whether NAME is a glob."""
    return not _GLOB_MARKS.isdisjoint(name)


def table_fits(name: str, metric: Metric) -> bool:
    """Whether [metric.NAME] applies to the metric. A counter matches with and without ``_total``, as on the pages."""
    names = {metric.name, metric.family}
    if metric.type == "counter":
        names.add(f"{metric.family}_total")
    return any(fnmatchcase(one, name) for one in names) if is_glob(name) else name in names


def metric_table(name: str) -> str:
    """[metric.NAME] as it is written in TOML."""
    return f"[metric.{toml_key(name)}]"
