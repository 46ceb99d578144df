"""loadavg: load averages over 1, 5 and 15 minutes, from /proc/loadavg: ``1.01 0.78 0.61 2/134 93834``."""

from __future__ import annotations

from collector.source import Sample
from collector.sources.host.group import Group, Places, gauge, stateless

METRICS = tuple(
    gauge(f"node_load{minutes}", f"Threads that run or wait for a disk, averaged over {minutes} min.", "threads")
    for minutes in (1, 5, 15)
)


def loads(text: str) -> list[float]:
    """The load averages over 1, 5 and 15 minutes."""
    return [float(field) for field in text.split()[:3]]


def read(places: Places) -> list[Sample]:
    values = loads(places.proc.text("loadavg"))
    return [Sample(metric.name, value) for metric, value in zip(METRICS, values, strict=True)]


GROUP = Group("loadavg", METRICS, stateless(read))
