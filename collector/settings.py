"""The tables [collector], [source.NAME] and [metric.NAME]. Keys of a single source are in the module of its class."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fogmetrics.durations import Seconds
from fogmetrics.settings.metric_names import is_glob, metric_table
from fogmetrics.settings.reader import key, other_keys
from fogmetrics.settings.tables import SharedTables
from shm.errors import ConfigurationError, MetricError
from shm.metric import Metric, check_buckets

# What becomes of series beyond a limit: their samples are dropped; or they replace the series whose last sample is
# oldest.
BEYOND = ("drop", "oldest")
_NO_OTHER = {
    "other": 'which added up the series beyond a limit in one series and was removed; give "drop", which counts their '
    'samples in collector_series_limited_total, or "oldest"'
}
_GLOB = re.compile(r"(?:[\w:./*?-]|\[!?[\w:./-]+\])+\Z")  # not all of UTF-8: ^, $, | and + are of regular expressions


@dataclass(frozen=True, slots=True)
class CollectorConfig:
    """[collector]"""

    interval_seconds: Seconds = key(15.0, "Time from one frame to the next.", low=0.1, high=3600)
    timeout_seconds: Seconds = key(
        0.0,
        "Time a collection may take; 0: 80 % of the interval, 10 s at most. Must be below the interval.",
        low=0,
        high=3600,
    )
    max_series: int = key(
        1000, "Series that one source may have; beyond sets what happens to more.", low=1, high=100_000
    )
    max_series_per_metric: int = key(
        200, "Series that one metric may have; beyond sets what happens to more.", low=1, high=100_000
    )
    max_label_values: int = key(
        0, "Distinct values that any one label of a metric may have; 0: no limit.", low=0, high=100_000
    )
    beyond: str = key(
        "drop",
        "What happens to series beyond a limit: they are dropped, or replace the oldest.",
        choices=BEYOND,
        removed=_NO_OTHER,
    )


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """[source.NAME]: keys of every source. ``options``: keys of the source's own class."""

    class_: str = key("", "module:Class of a source of your own; the built-in names need none.")
    enabled: bool | None = key(
        None, "Whether the source is on. Off by default: host, applications, textfile without a directory."
    )
    interval_seconds: Seconds = key(0.0, "Time from one frame to the next; 0: [collector]'s.", low=0, high=3600)
    timeout_seconds: Seconds = key(0.0, "Time a collection may take; 0: [collector]'s.", low=0, high=3600)
    max_series: int = key(0, "Series that this source may have; 0: [collector]'s.", low=0, high=100_000)
    max_series_per_metric: int = key(
        0, "Series that one metric of this source may have; 0: [collector]'s.", low=0, high=100_000
    )
    capacity: int = key(0, "Frames that its ring holds, 8 or more; 0: [shm]'s.", low=0, high=16_777_216)
    options: Mapping[str, Any] = other_keys()


@dataclass(frozen=True, slots=True)
class MetricConfig:
    """[metric.NAME]: keys of one metric, or of all metrics whose names match a glob."""

    max_series: int = key(
        0, "Series that the metric may have in one source; 0: max_series_per_metric.", low=0, high=100_000
    )
    beyond: str = key(
        "", "What happens to series beyond a limit; empty: [collector]'s.", choices=("", *BEYOND), removed=_NO_OTHER
    )
    max_label_values: int = key(
        -1, "Distinct values that any one label may have; 0: no limit, -1: [collector]'s.", low=-1, high=100_000
    )
    buckets: tuple[float, ...] = key(
        (), "Upper bounds of a histogram, in the metric's unit, rising; empty: the source's."
    )


@dataclass(frozen=True, slots=True)
class ApplicationsOptions:
    """[source.applications], which has no keys but those of every source."""


@dataclass(frozen=True)
class CollectorTables(SharedTables):
    """The tables that a collector reads."""

    collector: CollectorConfig = key(CollectorConfig(), "Defaults of every source; [source.NAME] may set its own.")
    source: Mapping[str, SourceConfig] = key({}, "What one source sets.")
    metric: Mapping[str, MetricConfig] = key({}, "What one metric sets, by name or glob, in the order of the file.")


def metric_mistakes(config: CollectorTables) -> Iterator[str]:
    """A message for each [metric.NAME] that no metric can match, and for each list of buckets that none can have."""
    for name, table in config.metric.items():
        where = f"{config.file}: {metric_table(name)}"
        if is_glob(name):
            if not _GLOB.match(name):
                yield f"{where} matches no metric name; use letters, digits and _ : . / -, and *, ? and [] for globs"
        else:
            try:
                Metric(name, "gauge", "")
            except MetricError as error:
                yield f"{where} can't be a metric: {error}"
        if table.buckets:
            try:
                check_buckets(name, table.buckets)
            except MetricError as error:
                yield f"{where} buckets can't be used: {error}"


def check_own_buckets(metric: str, buckets: tuple[float, ...], table: str) -> None:
    """Raises ConfigurationError if the metric can't have the buckets of ``table``."""
    try:
        check_buckets(metric, buckets)
    except MetricError as error:
        raise ConfigurationError(f"[{table}] buckets can't be used: {error}") from None


def with_buckets(metrics: Iterable[Metric], buckets: tuple[float, ...]) -> tuple[Metric, ...]:
    """The metrics, each histogram with ``buckets``."""
    return tuple(dataclasses.replace(one, buckets=buckets) if one.type == "histogram" else one for one in metrics)
