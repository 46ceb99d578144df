"""entropy: bits in the pool of the kernel's random number generator, from /proc/sys/kernel/random."""

from __future__ import annotations

from collector.source import Sample
from collector.sources.host.group import Group, Places, gauge, stateless

_METRIC_OF = {
    "entropy_avail": gauge("node_entropy_available_bits", "Entropy that is gathered, in bits.", "bits"),
    "poolsize": gauge("node_entropy_pool_size_bits", "Entropy that can be held, in bits.", "bits"),
}


def read(places: Places) -> list[Sample]:
    return [
        Sample(metric.name, int(places.proc.text(f"sys/kernel/random/{file}"))) for file, metric in _METRIC_OF.items()
    ]


GROUP = Group("entropy", tuple(_METRIC_OF.values()), stateless(read))
