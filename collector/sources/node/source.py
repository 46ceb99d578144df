"""The source *node*: usage of CPU, memory, disk and network of this host, read by psutil.

node_cpu_usage: the share of CPU time that was not idle between the last two collections; waiting for I/O counts as
idle, as in ``top``. node_memory_usage: memory that is not available to new programs ("MemAvailable").
node_network_io: bytes per second in both directions between two collections.

node_disk_usage is about the file system of one path, "/" by default, set by [source.node] disk_path. It is not the
maximum over all file systems: that would jump from one to another, and its average and percentiles mean little.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol

import psutil

from collector.loop.timeouts import CallThread
from collector.metrics import NODE
from collector.source import Collection, MetricSource, Sample
from collector.sources.host.options import NETWORK_FILE_SYSTEMS, excluded
from collector.sources.node.options import NodeOptions
from shm.errors import ConfigurationError
from shm.metric import increase
from shm.safe_repr import readable, said

__all__ = ["NodeMetricSource", "NodeOptions"]


class Host(Protocol):
    """The functions of psutil that are used; tests pass their own."""

    def cpu_times(self) -> Any: ...
    def virtual_memory(self) -> Any: ...
    def disk_usage(self, path: str) -> Any: ...
    def disk_partitions(self, all: bool = ...) -> Sequence[Any]: ...  # noqa: A002 - psutil's word
    def net_io_counters(self, pernic: Literal[True], nowrap: bool = ...) -> Mapping[str, Any]: ...


class NodeMetricSource(MetricSource):
    """Reads this host. ``clock`` is monotonic, in seconds."""

    name = "node"
    metrics = NODE

    def __init__(
        self, options: NodeOptions | None = None, host: Host = psutil, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.options = options or NodeOptions()
        self.node_id = self.options.node_id or readable(os.uname().nodename)
        self._host = host
        self._clock = clock
        self._excluded = excluded(self.options.network_exclude)
        self._disk_thread = CallThread(f"disk usage of {self.options.disk_path}")
        self._cpu: tuple[float, float] | None = None
        self._network: tuple[float, dict[str, int]] | None = None

    def open(self) -> None:
        """Take the baselines that the first collection compares with; it reports what can't be read."""
        for read in (self._cpu_percent, self._network_rate):
            with contextlib.suppress(Exception):
                read()

    def collect(self) -> Collection:
        labels = {"node_id": self.node_id}
        samples: list[Sample] = []
        errors: list[str] = []
        for name, read, file in (
            ("node_cpu_usage", self._cpu_percent, "/proc/stat"),
            ("node_memory_usage", self._memory_percent, "/proc/meminfo"),
            ("node_disk_usage", self._disk_percent, ""),
            ("node_network_io", self._network_rate, "/proc/net/dev"),
        ):
            try:
                value = read()
            except Exception as error:  # noqa: BLE001 - the other readings continue
                # psutil's errors of an odd line are Python's own, without the file.
                errors.append(f"{name}: {said(error)}{file and f'; it is read from {file}'}")
                continue
            if value is not None:
                samples.append(Sample(name, value, labels))
        return Collection(samples, errors, up=bool(samples))

    def _cpu_percent(self) -> float | None:
        before, self._cpu = self._cpu, _busy_and_total(self._host.cpu_times())
        if before is None:
            return None
        busy, total = self._cpu[0] - before[0], self._cpu[1] - before[1]
        # The kernel may correct iowait and idle downwards by a tick. If no time passed, nothing was measured.
        return min(max(100.0 * busy / total, 0.0), 100.0) if total > 0 else None

    def _memory_percent(self) -> float:
        memory = self._host.virtual_memory()
        return float(100.0 * (memory.total - memory.available) / memory.total)

    def _disk_percent(self) -> float | None:
        path = self.options.disk_path
        kind = _file_system_of(path, self._host.disk_partitions(all=True))
        if kind in NETWORK_FILE_SYSTEMS:
            raise ConfigurationError(
                f"[source.node] disk_path is {path!r}, on a network file system ({kind}) that may hang; "
                "choose a local one"
            )
        usage = self._disk_thread.call(lambda: self._host.disk_usage(path), self.options.disk_timeout_seconds)
        return float(usage.percent)

    def _network_rate(self) -> float | None:
        before, self._network = self._network, (self._clock(), self._bytes_by_interface())
        if before is None:
            return None
        seconds = self._network[0] - before[0]
        if seconds <= 0:
            return None
        # Summed by interface, so that added and removed interfaces cause no jump.
        moved = sum(increase(before[1].get(name), count) or 0.0 for name, count in self._network[1].items())
        return moved / seconds

    def _bytes_by_interface(self) -> dict[str, int]:
        # nowrap=False: psutil would otherwise add counters of removed interfaces.
        counters = self._host.net_io_counters(pernic=True, nowrap=False)
        return {name: one.bytes_recv + one.bytes_sent for name, one in counters.items() if not self._excluded(name)}


def _busy_and_total(times: Any) -> tuple[float, float]:
    """(seconds not idle, seconds in all) since boot, over all CPUs.

    ``guest`` and ``guest_nice`` are included in ``user`` and ``nice`` (proc(5), /proc/stat).
    """
    fields = times._asdict()
    total = sum(fields.values()) - fields.get("guest", 0.0) - fields.get("guest_nice", 0.0)
    return total - fields["idle"] - fields.get("iowait", 0.0), total


def _file_system_of(path: str, partitions: Sequence[Any]) -> str:
    """The type of the file system of ``path``, by the longest mount point that contains it. Pure."""
    best, kind = "", ""
    for partition in partitions:
        mount = partition.mountpoint.rstrip("/")
        if (path == mount or path.startswith(mount + "/")) and len(mount) >= len(best):
            best, kind = mount, partition.fstype
    return kind
