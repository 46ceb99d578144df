"""``collect[]`` and ``exclude[]`` as node_exporter has them: choose series by the group of the source ``host``.

A group is what node_exporter calls a collector. Series of other sources are chosen by their source's name, which for
``textfile`` is node_exporter's name, too.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, Protocol

from shm.metric import Series

HOST: Final = "host"

# How the names of each group's metrics begin.
PREFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "cpu": ("node_cpu_",),
    "diskstats": ("node_disk_",),
    "entropy": ("node_entropy_",),
    "filefd": ("node_filefd_",),
    "filesystem": ("node_filesystem_",),
    "hwmon": ("node_hwmon_",),
    "loadavg": ("node_load",),
    "meminfo": ("node_memory_",),
    "netdev": ("node_network_",),
    "pressure": ("node_pressure_",),
    "stat": ("node_boot_time_", "node_context_switches_", "node_forks_", "node_intr_", "node_procs_"),
    "thermal_zone": ("node_thermal_zone_", "node_cooling_device_"),
    "time": ("node_time_",),
    "uname": ("node_uname_",),
}


class Chosen(Protocol):
    """The parameters of both pages that choose series by where they come from; empty: all."""

    @property
    def sources(self) -> Collection[str]: ...
    @property
    def collect(self) -> Collection[str]: ...
    @property
    def exclude(self) -> Collection[str]: ...


def is_chosen(source: str, series: Series, query: Chosen) -> bool:
    """True if the source is among ``sources``, the series' group among ``collect``, and not among ``exclude``."""
    if query.sources and source not in query.sources:
        return False
    if not (query.collect or query.exclude):
        return True
    group = group_of(source, series)
    return (not query.collect or group in query.collect) and group not in query.exclude


def group_of(source: str, series: Series) -> str:
    """The group of the series, or else its source."""
    if source != HOST:
        return source
    of_one = series.labels.get("collector")  # node_scrape_collector_success and _duration_seconds
    if of_one is not None:
        return of_one
    name = series.metric.name
    return next((group for group, prefixes in PREFIXES.items() if name.startswith(prefixes)), source)
