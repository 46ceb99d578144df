"""The exporter's own process, by the names that every Prometheus client gives them.

https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics; read from proc(5).
"""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from typing import Final, NamedTuple

from shm.ring.discovery import process_fields


class ProcessMetric(NamedTuple):
    """``name`` without the ``_total`` of a counter."""

    name: str
    type: str
    help: str


METRICS: Final = (
    ProcessMetric("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes."),
    ProcessMetric("process_resident_memory_bytes", "gauge", "Resident memory size in bytes."),
    ProcessMetric("process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds."),
    ProcessMetric("process_cpu_seconds", "counter", "Total user and system CPU time spent in seconds."),
    ProcessMetric("process_open_fds", "gauge", "Number of open file descriptors."),
    ProcessMetric("process_max_fds", "gauge", "Maximum number of open file descriptors."),
)


def read() -> Mapping[str, float]:
    """The value of each of METRICS, by name; none of them where /proc can't be read."""
    try:
        fields = process_fields("self")
        with open("/proc/stat", "rb") as file:
            [boot_seconds] = [int(line.split()[1]) for line in file if line.startswith(b"btime ")]
        ticks = os.sysconf("SC_CLK_TCK")
        return {
            "process_virtual_memory_bytes": float(fields[20]),
            "process_resident_memory_bytes": float(fields[21]) * os.sysconf("SC_PAGE_SIZE"),
            "process_start_time_seconds": boot_seconds + int(fields[19]) / ticks,
            "process_cpu_seconds": (int(fields[11]) + int(fields[12])) / ticks,
            "process_open_fds": float(len(os.listdir("/proc/self/fd")) - 1),  # without that of the listing
            "process_max_fds": float(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
        }
    except (OSError, ValueError, IndexError):
        return {}
