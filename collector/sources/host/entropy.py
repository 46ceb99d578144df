"""entropy: bits in the pool of the kernel's random number generator, from /proc/sys/kernel/random."""

from __future__ import annotations

from collector.source import Collection, Sample
from collector.sources.host.group import Group, Places, gauge, stateless
from shm.safe_repr import said

_METRIC_OF = {
    "entropy_avail": gauge("node_entropy_available_bits", "Entropy that is gathered, in bits.", "bits"),
    "poolsize": gauge("node_entropy_pool_size_bits", "Entropy that can be held, in bits.", "bits"),
}


def read(places: Places) -> Collection:
    samples, errors = [], []
    for file, metric in _METRIC_OF.items():
        try:
            numbers, wrong = places.proc.lines(f"sys/kernel/random/{file}", int)
        except OSError as error:
            numbers, wrong = [], [said(error)]
        samples += [Sample(metric.name, number) for number in numbers]
        errors += wrong
    return Collection(samples, errors)


GROUP = Group("entropy", tuple(_METRIC_OF.values()), stateless(read))
