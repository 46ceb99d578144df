"""A source of a user's own whose samples prove themselves: each is a function of one moment.

The collector imports it by ``[source.proof] class = "tests.siege.daemon.proof:ProofSource"``, as it would a user's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from collector.source import MetricSource, Sample
from shm.metric import Metric

NAME = "proof"
BUCKETS = (8.0, 16.0, 32.0, 48.0)
_PRIME = 2_147_483_647.0


def mixed(milliseconds: float) -> float:
    """Another whole number for each moment, exact in a float64: neighbouring moments have nothing in common."""
    return (milliseconds % 65_536.0) * 48_271.0 % _PRIME


def observed(milliseconds: float) -> float:
    """What the histogram observes at that moment: 0 to 63."""
    return milliseconds % 64.0


class ProofSource(MetricSource):
    """One moment, said four ways: a gauge, its mixture, a counter that rises with time, an observation."""

    name = NAME
    metrics = (
        Metric("proof_moment", "gauge", "Unix time of the collection, in milliseconds.", unit="milliseconds"),
        Metric("proof_mixed", "gauge", "A function of proof_moment."),
        Metric("proof_moments_total", "counter", "Milliseconds since 1970, as a counter."),
        Metric("proof_observed", "histogram", "A function of proof_moment, cumulated.", buckets=BUCKETS),
    )

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall

    def collect(self) -> list[Sample]:
        moment = float(int(self._wall() * 1000))
        return [
            Sample("proof_moment", moment),
            Sample("proof_mixed", mixed(moment)),
            Sample("proof_moments_total", moment),
            Sample("proof_observed", observed(moment)),
        ]


def fault_of(samples: Mapping[str, float], buckets: Mapping[float, float]) -> str:
    """What contradicts what among the samples of one page, by their names; empty where they agree.

    ``buckets``: the histogram's, by their bounds.
    """
    moment = samples.get("proof_moment")
    if moment is None:  # the collection failed: it was stopped meanwhile, and timed out
        others = [name for name in samples if name.startswith("proof_")]
        return f"{others[0]} is there without the moment" if others else ""
    if samples["proof_mixed"] != mixed(moment):
        return f"proof_mixed is {samples['proof_mixed']} for the moment {moment}, not {mixed(moment)}"
    if samples["proof_moments_total"] != moment:
        return f"proof_moments_total is {samples['proof_moments_total']} at the moment {moment}"
    counts = [buckets[bound] for bound in sorted(buckets)]
    if counts != sorted(counts):
        return f"the buckets of proof_observed fall: {counts}"
    if counts[-1] != samples["proof_observed_count"]:
        return f"proof_observed has {counts[-1]} in +Inf, and counts {samples['proof_observed_count']}"
    most, total = 63 * counts[-1], samples["proof_observed_sum"]
    if not 0 <= total <= most:
        return f"the sum of proof_observed is {total}, its {counts[-1]} observations can't have more than {most}"
    return ""
