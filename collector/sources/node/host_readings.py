"""LinuxHost: what the node source reads of this host, from four files of proc(5) and statvfs(3).

The names and the meanings are psutil's, whose Linux part reads the same files; the tests hold the two side by side.
psutil itself is asked for what a file does not say. To import it for these five readings is 2 MiB and 10 ms of a
process that is 9 MiB, and its reading takes twice the CPU of this one: it opens each file anew and as text.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from collector.sources.files import Files
from collector.sources.proc import interface_counts, mount_lines


class CpuTimes(NamedTuple):
    """Seconds since boot, of all CPUs together; a kernel that does not count one of them leaves it out."""

    user: float
    nice: float
    system: float
    idle: float
    iowait: float = 0.0
    irq: float = 0.0
    softirq: float = 0.0
    steal: float = 0.0
    guest: float = 0.0
    guest_nice: float = 0.0


class Memory(NamedTuple):
    """Bytes."""

    total: int
    available: int


class Usage(NamedTuple):
    """``percent``: space used, of what users can have."""

    percent: float


class Mount(NamedTuple):
    mountpoint: str
    fstype: str


class InterfaceBytes(NamedTuple):
    bytes_recv: int
    bytes_sent: int


class LinuxHost:
    """Five functions of psutil, with as much of each answer as the node source needs. One caller at a time."""

    def __init__(self, proc: str = "/proc") -> None:
        self._files = Files(proc)

    def cpu_times(self) -> CpuTimes:
        return cpu_times(self._text("stat"), os.sysconf("SC_CLK_TCK"))

    def virtual_memory(self) -> Any:
        memory = memory_of(self._text("meminfo"))
        if memory is None:
            import psutil  # estimates it as the kernel would

            return psutil.virtual_memory()
        return memory

    def disk_usage(self, path: str) -> Usage:
        found = os.statvfs(path)
        return Usage(used_percent(found.f_blocks, found.f_bfree, found.f_bavail))

    def disk_partitions(self, all: bool = True) -> list[Mount]:  # noqa: A002 - psutil's word
        return mounts(self._text("self/mounts"))

    def net_io_counters(self, pernic: bool = True, nowrap: bool = False) -> dict[str, InterfaceBytes]:
        return interface_bytes(self._text("net/dev"))

    def close(self) -> None:
        """Close the files; the next reading opens them again."""
        self._files.close()

    def _text(self, name: str) -> str:
        return os.fsdecode(self._files.read(name))  # names of mount points and interfaces are bytes


def cpu_times(text: str, ticks_per_second: int) -> CpuTimes:
    """From /proc/stat: ``cpu  10132153 290696 3084719 46828483 16683 0 25195 0 175628 0``, in ticks."""
    fields = text[: text.index("\n")].split()[1:]
    return CpuTimes(*(int(field) / ticks_per_second for field in fields[: len(CpuTimes._fields)]))


def memory_of(text: str) -> Memory | None:
    """From /proc/meminfo: ``MemTotal:       16384256 kB``. None where the kernel does not say what is available.

    That is before Linux 3.14, and where it says 0 (giampaolo/psutil#1915).
    """
    found = {"MemAvailable": 0}
    for line in text.split("\n", 8):  # the three are at the top, and what is behind the eighth is not parted
        name, _, rest = line.partition(":")
        if name in ("MemTotal", "MemFree", "MemAvailable"):
            found[name] = int(rest.split()[0]) * 1024
    total, available = found["MemTotal"], found["MemAvailable"]
    if not available:
        return None
    # In a container whose limit is shown as the total, the host's available memory may be more than that.
    return Memory(total, available if available <= total else found["MemFree"])


def used_percent(blocks: int, free: int, available: int) -> float:
    """As df(1) has it: what root alone may have counts neither as used nor as space."""
    used = blocks - free
    return round(100.0 * used / (used + available), 1) if used + available else 0.0


def mounts(text: str) -> list[Mount]:
    """From /proc/self/mounts."""
    return [Mount(mountpoint, fstype) for _, mountpoint, fstype, _ in mount_lines(text)]


def interface_bytes(text: str) -> dict[str, InterfaceBytes]:
    """From /proc/net/dev."""
    return {name: InterfaceBytes(counts[0], counts[8]) for name, counts in interface_counts(text).items()}
