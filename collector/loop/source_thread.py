"""SourceThread: a source with the one thread in which it is opened, collected and closed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from collector.loop.timeouts import Call, CallThread
from collector.source import Collection, CollectResult, MetricSource, Sample
from shm.errors import MetricError
from shm.metric import Metric
from shm.safe_repr import said, shown

log = logging.getLogger(__name__)

T = TypeVar("T")

# What one collection may give: twice the series that a source may have at most. A generator without an end would take
# all of the host's memory, also in an abandoned thread; this many samples, each with a label, take 72 MiB.
MOST_SAMPLES: Final = 200_000


@dataclass(slots=True)
class SourceResult:
    """What one collection of ``source`` gave, all of it read, and how long it took; see Collection.

    ``errors`` also has a sentence for each sample that was refused.
    """

    source: MetricSource
    samples: Sequence[Sample] = ()
    errors: list[str] = field(default_factory=list)
    up: bool = True
    metrics: Sequence[Metric] = ()
    seconds: float = 0.0


class SourceThread:
    """Makes the calls of ``source``, each bounded in time. Its thread starts with the first call."""

    def __init__(self, source: MetricSource) -> None:
        self.source = source
        self.opened = False  # set by the thread, also after open() took longer than its timeout
        self._thread = CallThread(source.name)

    def open(self, timeout_seconds: float) -> None:
        """Open the source. Raises its exception, or Hung past the timeout."""

        def job() -> None:
            self._thread.resolve(self.source.open(), timeout_seconds)
            self.opened = True

        self._thread.call(job, timeout_seconds)

    def start(self, timeout_seconds: float) -> Call[SourceResult]:
        """Begin a collection without waiting for it; :meth:`finish` waits."""
        source, thread = self.source, self._thread

        def job() -> SourceResult:
            begun = time.monotonic()
            result = read(source, thread.resolve(source.collect(), timeout_seconds))
            result.seconds = time.monotonic() - begun
            return result

        return thread.start(job, timeout_seconds)

    def finish(self, call: Call[SourceResult], stop: Callable[[], bool] = lambda: False) -> SourceResult:
        """The result of a collection. Never raises: if it failed or hangs, ``up`` is False and ``errors`` say why."""
        try:
            return call.value(stop)
        except Exception as error:  # any failure of a source is its own
            log.debug("collection failed", extra={"source": self.source.name}, exc_info=error)
            return SourceResult(self.source, errors=[said(error)], up=False, seconds=time.monotonic() - call.begun)

    def close(self, timeout_seconds: float) -> None:
        """Close the source, and end the thread once it is idle. Raises the source's exception, or Hung."""
        try:
            self._thread.call(lambda: self._thread.resolve(self.source.close(), timeout_seconds), timeout_seconds)
        finally:
            self.end()

    def end(self) -> None:
        """End the thread once it is idle; the source stays as it is."""
        self._thread.close()


def read(source: MetricSource, given: CollectResult) -> SourceResult:
    """All that ``source.collect()`` gave, checked for its types. Raises MetricError."""
    try:
        if not isinstance(given, Collection):
            return SourceResult(source, _all_of(source, "samples", given))
        errors = (given.errors,) if isinstance(given.errors, str) else given.errors
        metrics = _all_of(source, "metrics", given.metrics)
        if not all(isinstance(one, Metric) for one in metrics):
            raise MetricError(f"collect() of source {source.name!r} gave the metrics {shown(metrics)}; give Metrics")
        return SourceResult(
            source,
            _all_of(source, "samples", given.samples),
            [one if isinstance(one, str) else shown(one) for one in _all_of(source, "errors", errors)],
            bool(given.up),
            metrics,
        )
    except TypeError as error:
        raise MetricError(
            f"collect() of source {source.name!r} gave {shown(given)} ({error}); give a list of Sample, or a Collection"
        ) from None


def _all_of(source: MetricSource, what: str, given: Iterable[T]) -> tuple[T, ...]:
    """All that was given. Raises MetricError when it is too much, or has no end."""
    found = tuple(islice(given, MOST_SAMPLES + 1))
    if len(found) > MOST_SAMPLES:
        raise MetricError(
            f"collect() of source {source.name!r} gave more than {MOST_SAMPLES} {what}; give fewer, or see why its "
            "generator has no end"
        )
    return found
