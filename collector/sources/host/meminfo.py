"""meminfo: memory statistics, one metric for each known line of /proc/meminfo.

    MemTotal:       24684084 kB
    Active(anon):      75184 kB        node_memory_Active_anon_bytes
    HugePages_Total:       0           node_memory_HugePages_Total, a count

A source declares its metrics before its first frame, so the lines are listed here: those of Linux 3.10 to 6.18 on
Debian's architectures. Other lines are ignored.
"""

from __future__ import annotations

from collector.source import Collection, Sample
from collector.sources.host.group import Group, Places, gauge, stateless

_BYTES = (
    "MemTotal", "MemFree", "MemAvailable", "Buffers", "Cached", "SwapCached", "Active", "Inactive", "Active(anon)",
    "Inactive(anon)", "Active(file)", "Inactive(file)", "Unevictable", "Mlocked", "HighTotal", "HighFree", "LowTotal",
    "LowFree", "MmapCopy", "SwapTotal", "SwapFree", "Zswap", "Zswapped", "Dirty", "Writeback", "AnonPages", "Mapped",
    "Shmem", "KReclaimable", "Slab", "SReclaimable", "SUnreclaim", "KernelStack", "ShadowCallStack", "PageTables",
    "SecPageTables", "Quicklists", "NFS_Unstable", "Bounce", "WritebackTmp", "CommitLimit", "Committed_AS",
    "VmallocTotal", "VmallocUsed", "VmallocChunk", "Percpu", "EarlyMemtestBad", "HardwareCorrupted", "AnonHugePages",
    "ShmemHugePages", "ShmemPmdMapped", "FileHugePages", "FilePmdMapped", "CmaTotal", "CmaFree", "Unaccepted",
    "Balloon", "GPUActive", "GPUReclaim", "Hugepagesize", "Hugetlb", "DirectMap4k", "DirectMap64k", "DirectMap1M",
    "DirectMap2M", "DirectMap4M", "DirectMap1G",
)  # fmt: skip
_PAGES = ("HugePages_Total", "HugePages_Free", "HugePages_Rsvd", "HugePages_Surp")


def _name(field: str, ending: str = "") -> str:
    return f"node_memory_{field.replace('(', '_').replace(')', '')}{ending}"


_METRIC_OF = {
    field: gauge(_name(field, "_bytes"), f"What /proc/meminfo has as {field}, in bytes.", "bytes") for field in _BYTES
} | {field: gauge(_name(field), f"What /proc/meminfo has as {field}, in pages.", "pages") for field in _PAGES}


def sample(line: str) -> Sample | None:
    """The value of a known line: bytes, or a count if the line has no unit. Raises ValueError."""
    name, _, rest = line.partition(":")
    metric = _METRIC_OF.get(name)
    if metric is None:
        return None
    number, *unit = rest.split()
    if unit not in ([], ["kB"]):
        raise ValueError(line)
    return Sample(metric.name, int(number) * 1024 if unit else int(number))


def read(places: Places) -> Collection:
    return Collection(*places.proc.lines("meminfo", sample))


GROUP = Group("meminfo", tuple(_METRIC_OF.values()), stateless(read))
