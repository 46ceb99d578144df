"""The source *system*: uptime, and the numbers of nodes and deployments in the other rings of this host.

The other rings are read with RingReader, as in the exporter, and used only while they are fresh. Without a fresh ring
that has the metric, the sample is absent, not 0.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from collector.metrics import SYSTEM
from collector.settings import CollectorTables
from collector.source import Collection, MetricSource, Sample
from collector.sources.host.files import Files
from fogmetrics.settings.reader import Directory, key
from shm.errors import RingError
from shm.files import RING, rings_in
from shm.metric import Metric
from shm.ring.discovery import TrustedFiles
from shm.ring.reader import Frame, RingReader
from shm.safe_repr import said

STALE_INTERVALS = 3.0  # a ring without a frame for this many intervals is stale; the exporter's default
_REPLICAS = "deployment_replica_count"


@dataclass(frozen=True, slots=True)
class SystemOptions:
    """[source.system]"""

    proc: Directory = key("/proc", "Where proc(5) is mounted.")


class SystemMetricSource(MetricSource):
    """Counts over the other rings of ``namespace`` that belong to user ``owner`` (None: this process's user)."""

    name = "system"
    metrics = SYSTEM
    # All collectors start at the same time, and the values of `deployment` change at first.
    first_ticks_seconds = (0.2, 0.5, 0.8, 1.2, 1.7, 2.5, 3.5)

    def __init__(
        self,
        options: SystemOptions | None = None,
        namespace: str = "default",
        owner: int | None = None,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self.options = options or SystemOptions()
        self._proc = Files(self.options.proc)
        self._namespace = namespace
        self._owner = os.geteuid() if owner is None else owner
        self._monotonic = monotonic
        self._files = TrustedFiles(namespace, RING, {self._owner})
        self._readers: dict[str, RingReader] = {}

    @classmethod
    def from_config(cls, options: SystemOptions, config: CollectorTables, timeout_seconds: float) -> SystemMetricSource:
        return cls(options, config.shm.namespace, config.ring_owner())

    def collect(self) -> Collection:
        errors: list[str] = []
        samples: list[Sample] = []
        try:
            uptimes, wrong = self._proc.lines("uptime", _uptime)
            if not uptimes and not wrong:
                wrong = [f"{self._proc.path('uptime')} is empty; see what is mounted there"]
        except OSError as error:
            uptimes, wrong = [], [said(error)]
        samples += [Sample("system_uptime", uptime) for uptime in uptimes]
        errors += [f"system_uptime: {one}" for one in wrong]
        nodes: set[str] = set()
        deployments: set[str] = set()
        deployments_known = False
        names = rings_in(self._files.names(), self._namespace)
        for gone in self._readers.keys() - set(names):
            self._readers.pop(gone).close()  # frees its memory
        for source in names:
            if source == self.name:
                continue
            try:
                found = self._read(source)
            except (RingError, OSError) as error:  # OSError: no descriptor or memory to copy with
                errors.append(str(error) if isinstance(error, RingError) else f"ring {source!r}: {said(error)}")
                continue
            if found is None:
                continue
            reader, frame = found
            deployments_known |= any(map(_counts_replicas, reader.catalog.metrics))
            for series in reader.catalog.series:
                if "node_id" in series.metric.label_names and frame.value(series.column) is not None:
                    nodes.add(series.labels["node_id"])
                if _counts_replicas(series.metric) and (frame.value(series.column) or 0) >= 1:
                    deployments.add(series.labels["deployment_id"])
        if nodes:
            samples.append(Sample("system_total_nodes", len(nodes)))
        if deployments_known:
            samples.append(Sample("system_active_deployments", len(deployments)))
        return Collection(samples, errors, up=bool(samples))

    def _read(self, source: str) -> tuple[RingReader, Frame] | None:
        """The ring's reader and newest frame; None if it is empty or stale. Raises RingError."""
        if source in self._readers and self._readers[source].replaced:
            self._readers.pop(source).close()
        if source not in self._readers:
            self._readers[source] = RingReader(self._namespace, source, owner=self._owner)
        reader = self._readers[source]
        frame = reader.latest()
        if frame is None:
            return None
        age_ns = self._monotonic() - frame.monotonic_ns
        return (reader, frame) if 0 <= age_ns <= STALE_INTERVALS * reader.header.interval_ns else None

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._files.close()


def _counts_replicas(metric: Metric) -> bool:
    """Whether its series are deployments' replicas; another ring may use the name for something else."""
    return metric.name == _REPLICAS and "deployment_id" in metric.label_names


def _uptime(line: str) -> float:
    """``350735.47 234388.90``: uptime and idle time, proc(5). Raises ValueError.

    psutil has only the time of the boot, in whole seconds, and it moves when the wall clock is set.
    """
    uptime, _idle = line.split()
    return float(uptime)
