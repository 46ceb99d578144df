"""entropy: bits in the pool of the kernel's random number generator, from /proc/sys/kernel/random."""

from __future__ import annotations

from collector.source import Sample
from collector.sources.host.group import Group, Places, Read, Reading, gauge
from collector.sources.host.options import HostOptions

_METRIC_OF = {
    "entropy_avail": gauge("node_entropy_available_bits", "Entropy that is gathered, in bits.", "bits"),
    "poolsize": gauge("node_entropy_pool_size_bits", "Entropy that can be held, in bits.", "bits"),
}


def reader(places: Places, _options: HostOptions) -> Read:
    def read() -> Reading:
        return Reading(
            [
                Sample(metric.name, int(places.proc.text(f"sys/kernel/random/{file}")))
                for file, metric in _METRIC_OF.items()
            ]
        )

    return read


GROUP = Group("entropy", tuple(_METRIC_OF.values()), reader)
