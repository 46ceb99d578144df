"""A source of a user's own whose samples are all functions of one moment, so that a mixture of two frames shows.

The collector imports it by ``[source.proof] class = "tests.siege.daemon.proof:ProofSource"``, as it would a user's.
"""

from __future__ import annotations

import time

from collector.source import MetricSource, Sample
from shm.metric import Metric

NAME = "proof"
BUCKETS = (8.0, 16.0, 32.0, 48.0)


def observed(milliseconds: float) -> float:
    """What the histogram observes at that moment: 0 to 63."""
    return milliseconds % 64.0


class ProofSource(MetricSource):
    """One moment as a gauge, as a counter, and as an observation."""

    name = NAME
    metrics = (
        Metric("proof_moment", "gauge", "Unix time of the collection, in milliseconds.", unit="milliseconds"),
        Metric("proof_moments_total", "counter", "Milliseconds since 1970, as a counter."),
        Metric("proof_observed", "histogram", "A function of proof_moment, cumulated.", buckets=BUCKETS),
    )

    def collect(self) -> list[Sample]:
        moment = float(time.time_ns() // 1_000_000)
        return [
            Sample("proof_moment", moment),
            Sample("proof_moments_total", moment),
            Sample("proof_observed", observed(moment)),
        ]
