"""loadavg: load averages over 1, 5 and 15 minutes, from /proc/loadavg: ``1.01 0.78 0.61 2/134 93834``."""

from __future__ import annotations

from collector.source import Collection, Sample
from collector.sources.host.group import Group, Places, gauge, stateless

METRICS = tuple(
    gauge(f"node_load{minutes}", f"Threads that run or wait for a disk, averaged over {minutes} min.", "threads")
    for minutes in (1, 5, 15)
)


def loads(line: str) -> tuple[float, float, float]:
    """The load averages over 1, 5 and 15 minutes. Raises ValueError."""
    one, five, fifteen, *_ = line.split()
    return float(one), float(five), float(fifteen)


def read(places: Places) -> Collection:
    found, errors = places.proc.lines("loadavg", loads)
    return Collection(
        [Sample(metric.name, value) for values in found for metric, value in zip(METRICS, values, strict=True)], errors
    )


GROUP = Group("loadavg", METRICS, stateless(read))
