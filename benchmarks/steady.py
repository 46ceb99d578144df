"""A counter of one a second: any other rate of it is an error of who computes it."""

from __future__ import annotations

import time
from typing import Final

from collector.source import MetricSource, Sample
from shm.metric import Metric

NAME: Final = "steady"
SECONDS: Final = "steady_seconds_total"


class SteadySource(MetricSource):
    """The time since the source was made, as the wall clock has it, which stamps frames and scrapes alike."""

    name = NAME
    metrics = (Metric(SECONDS, "counter", "Time since the start of the source, in seconds.", "seconds"),)

    def __init__(self) -> None:
        self._begun = time.time()

    def collect(self) -> list[Sample]:
        return [Sample(SECONDS, time.time() - self._begun)]
