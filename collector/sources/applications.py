"""The source *applications*: records the series of applications in a ring, so that they have a history.

The exporter reads the applications' tables itself for /metrics; the ring of this source is only for
/metrics/aggregated. The source also folds this user's tables of dead processes if no process that started since did so.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection as Owners

from collector import metrics
from collector.settings import ApplicationsOptions, CollectorTables
from collector.source import Collection, MetricSource, Sample
from shm.errors import FogmetricsError
from shm.metric import Metric, Series, SeriesKey
from shm.ring.discovery import TrustedFiles
from shm.ring.layout import is_absent
from shm.table import dead
from shm.table.format import RETIRED, TABLE, listed
from shm.table.merge import ApplicationReader

log = logging.getLogger(__name__)


class ApplicationsSource(MetricSource):
    """Collects from tables. ``owners``: trusted user ids; ``group``: the group that may read folded tables; ``label``:
    see ApplicationReader.
    """

    name = "applications"
    metrics = (metrics.APPLICATION_PROCESSES,)
    default_max_series_per_metric = 1000

    def __init__(
        self, options: ApplicationsOptions | None = None, namespace: str = "default", owners: Owners[int] = (),
        group: str = "", label: str = "",
    ) -> None:  # fmt: skip
        self.options = options or ApplicationsOptions()
        self._namespace = namespace
        self._owners = owners or {os.geteuid()}
        self._group = group
        self._label = label
        self._files = TrustedFiles(namespace, TABLE, self._owners)
        self._readers: dict[str, ApplicationReader] = {}

    @classmethod
    def from_config(
        cls, options: ApplicationsOptions, config: CollectorTables, timeout_seconds: float
    ) -> ApplicationsSource:
        return cls(options, config.shm.namespace, config.table_owners(), config.shm.group, config.application_label())

    def collect(self) -> Collection:
        found = listed(self._namespace, self._files.names())
        for name in [name for name in self._readers if name not in found]:
            self._readers.pop(name).close()
        samples: list[Sample] = []
        errors: list[str] = []
        owners: dict[str, tuple[Metric, str]] = {  # by sample name
            name: (one, "the daemon") for one in (*metrics.OWN, *metrics.OPTIONAL) for name in one.sample_names
        }
        seen: dict[SeriesKey, str] = {}
        read = {name: self._reader(name).refresh(identities) for name, identities in found.items()}
        # What an application counts now goes before the counts of one that has ended.
        for name in sorted(found, key=lambda one: (not self._readers[one].processes, one)):
            reader, values, identities = self._readers[name], read[name], found[name]
            samples.append(Sample(metrics.APPLICATION_PROCESSES.name, reader.processes, {"application": name}))
            refused = set()
            for series in reader.plan.series:
                own = values[series.column : series.end]
                if is_absent(own[-1]):
                    continue
                if owner := _take_names(owners, series.metric, name):
                    refused.add(f"application {name!r}: metric {series.metric.name!r} is {owner}'s; rename one")
                    continue
                if (first := seen.setdefault((series.metric.name, series.label_values), name)) != name:
                    refused.add(
                        f"application {name!r}: series of metric {series.metric.name!r} are {first}'s too, so they are "
                        "omitted here; rename one"
                    )
                    continue
                samples.append(_sample(series, own.tolist()))
            errors += [*sorted(refused), *reader.errors.values()]
            if reader.processes + (RETIRED in identities) < reader.tables:
                try:
                    dead.fold(self._namespace, name, self._group)
                except (FogmetricsError, OSError) as error:
                    errors.append(f"application {name!r}: the tables of its dead processes are not folded: {error}")
        return Collection(
            samples, errors, metrics=list(dict.fromkeys(one for one, _ in owners.values() if not one.own))
        )

    def _reader(self, application: str) -> ApplicationReader:
        if application not in self._readers:
            self._readers[application] = ApplicationReader(self._namespace, application, self._owners, self._label)
        return self._readers[application]

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._files.close()


def _take_names(owners: dict[str, tuple[Metric, str]], metric: Metric, application: str) -> str:
    """Register the metric's sample names to the application; else the one that has them for another metric."""
    for name in metric.sample_names:
        known, owner = owners.get(name, (metric, application))
        if owner != application and (known.name != metric.name or known.shape != metric.shape or known.own):
            return owner
    for name in metric.sample_names:
        owners.setdefault(name, (metric, application))
    return ""


def _sample(series: Series, values: list[float]) -> Sample:
    if series.metric.type == "histogram":
        return Sample(series.metric.name, None, series.labels, counted=values[1:])
    if series.metric.type == "summary":
        return Sample(series.metric.name, None, series.labels, counted=values)
    return Sample(series.metric.name, values[0], series.labels)
