"""Rules of single metrics from the configuration: the tables [metric.NAME], and the defaults of [collector].

Each key is taken from the first table that sets it: the one of exactly that name, then globs in the order of the file,
then the source's and [collector]'s.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from collector.settings import CollectorTables, MetricConfig
from fogmetrics.settings.metric_names import is_glob, metric_table, table_fits
from shm.errors import ConfigurationError
from shm.metric import Metric

_KEYS = dataclasses.fields(MetricConfig)
# By default a metric has the source's limit of series, drops further ones, and has any number of label values.
_DEFAULT = MetricConfig(beyond="drop", max_label_values=0)


class Rules:
    """Looks up rules by metric. ``tables``: [metric.NAME] by NAME; ``default``: the values of keys that none of them
    sets; ``file``: the configuration's name in messages.
    """

    def __init__(
        self, tables: Mapping[str, MetricConfig] | None = None, default: MetricConfig = _DEFAULT, file: str = "defaults"
    ) -> None:
        self._tables = sorted((tables or {}).items(), key=lambda one: is_glob(one[0]))  # stable: globs keep their order
        self._default = default
        self._file = file
        self._found: dict[tuple[str, str], MetricConfig] = {}

    @classmethod
    def of(cls, config: CollectorTables) -> Rules:
        defaults = config.collector
        return cls(config.metric, MetricConfig(0, defaults.beyond, defaults.max_label_values), config.file)

    def rule(self, metric: Metric) -> MetricConfig:
        """The limits and buckets of a metric, with the defaults for keys that no table sets."""
        found = self._found.get((metric.name, metric.type))
        if found is None:
            found = self._default
            for _, table in reversed([*self._fitting(metric)]):
                values = {
                    one.name: getattr(table, one.name) for one in _KEYS if getattr(table, one.name) != one.default
                }
                found = dataclasses.replace(found, **values)
            self._found[metric.name, metric.type] = found
        return found

    def configured(self, metric: Metric) -> Metric:
        """The metric with the buckets that the configuration sets, if any."""
        if metric.type != "histogram":
            return metric
        return dataclasses.replace(metric, buckets=self.rule(metric).buckets or metric.buckets)

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

    def _fitting(self, metric: Metric) -> Iterator[tuple[str, MetricConfig]]:
        """The tables whose name matches, the most specific first."""
        for name, table in self._tables:
            if table_fits(name, metric):
                yield name, table
