"""Rules of single metrics from the configuration: the tables [metric.NAME], and the defaults of [collector].

Each key is taken from the first table that sets it: the one of exactly that name, then globs in the order of the file,
then the source's and [collector]'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from collector.settings import CollectorTables, MetricConfig
from fogmetrics.settings.metric_names import is_glob, metric_table, table_fits
from shm.errors import ConfigurationError
from shm.metric import Metric

_NONE: Mapping[str, MetricConfig] = {}


@dataclass(frozen=True, slots=True)
class Rule:
    """The limits of one metric. ``max_series`` 0: the source's limit per metric; ``max_label_values`` 0: no limit.

    ``beyond``: what happens to series beyond a limit, one of :data:`collector.settings.BEYOND`.
    """

    max_series: int = 0
    beyond: str = "drop"
    max_label_values: int = 0


class Rules:
    """Looks up rules by metric. ``tables``: [metric.NAME] by NAME; ``file``: the configuration's name in messages."""

    def __init__(
        self,
        tables: Mapping[str, MetricConfig] = _NONE,
        *,
        beyond: str = "drop",
        max_label_values: int = 0,
        file: str = "defaults",
    ) -> None:
        self._tables = sorted(tables.items(), key=lambda one: is_glob(one[0]))  # stable: globs keep their order
        self._default = MetricConfig(beyond=beyond, max_label_values=max_label_values)
        self._file = file
        self._found: dict[tuple[str, str], Rule] = {}

    @classmethod
    def of(cls, config: CollectorTables) -> Rules:
        return cls(
            config.metric,
            beyond=config.collector.beyond,
            max_label_values=config.collector.max_label_values,
            file=config.file,
        )

    def rule(self, metric: Metric) -> Rule:
        """The limits of a metric."""
        known = self._found.get((metric.name, metric.type))
        if known is None:
            known = self._found[metric.name, metric.type] = Rule(
                self._first(metric, "max_series", 0),
                self._first(metric, "beyond", ""),
                self._first(metric, "max_label_values", -1),
            )
        return known

    def configured(self, metric: Metric) -> Metric:
        """The metric with the buckets that the configuration sets, if any."""
        if metric.type != "histogram":
            return metric
        return dataclasses.replace(metric, buckets=self._first(metric, "buckets", ()) or metric.buckets)

    def check(self, metrics: Iterable[Metric]) -> None:
        """Raises ConfigurationError if the table of exactly one of these metrics can't apply to it."""
        for metric in metrics:
            if flaw := self.flaw(metric):
                raise ConfigurationError(flaw)

    def flaw(self, metric: Metric) -> str:
        """A sentence with the mistake in the table of exactly that metric; empty without a table or a mistake."""
        for name, table in self._fitting(metric):
            if is_glob(name):
                break
            where = f"{self._file}: {metric_table(name)}"
            if metric.own:
                return f"{where} is the daemon's own metric, which has no limits; remove the table"
            if table.buckets and metric.type != "histogram":
                return f"{where} buckets are for histograms, and {metric.name} is a {metric.type}; remove the key"
        return ""

    def _first(self, metric: Metric, key: str, unset: object) -> Any:
        tables = (*(table for _, table in self._fitting(metric)), self._default)
        return next((found for found in (getattr(one, key) for one in tables) if found != unset), unset)

    def _fitting(self, metric: Metric) -> Iterator[tuple[str, MetricConfig]]:
        """The tables whose name matches, the most specific first."""
        for name, table in self._tables:
            if table_fits(name, metric):
                yield name, table
