"""SourceThread: opens, collects and closes a source, all on one thread and each bounded in time."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar

from collector.loop.timeouts import Call, CallThread
from collector.raised_at import raised_at
from collector.source import Collection, CollectResult, MetricSource, Sample
from shm.errors import MetricError
from shm.metric import Metric
from shm.safe_repr import said, shown

log = logging.getLogger(__name__)

T = TypeVar("T")

# Most samples of one collection: twice the largest max_series. A generator without an end would otherwise take all of
# the host's memory, also on an abandoned thread; this many samples, each with a label, take 72 MiB.
MOST_SAMPLES: Final = 200_000


@dataclass(slots=True)
class SourceResult:
    """The result of one collection, fully read, and its duration; see Collection.

    ``errors`` also has a sentence for each refused sample. ``place``: of the exception that collect() raised, see
    raised_at().
    """

    source: MetricSource
    samples: Sequence[Sample] = ()
    errors: list[str] = field(default_factory=list)
    up: bool = True
    metrics: Sequence[Metric] = ()
    seconds: float = 0.0
    place: str = ""


class SourceThread:
    """Calls ``source`` on a thread that starts with the first call. Each call is bounded in time."""

    def __init__(self, source: MetricSource) -> None:
        self.source = source
        self.opened = False  # set by the thread, even if open() returns after its timeout
        self._thread = CallThread(source.name)

    def open(self, timeout_seconds: float) -> None:
        """Open the source. Raises its exception, or Hung after the timeout."""

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
        """Wait for a collection. Never raises: if it failed or hangs, ``up`` is False and ``errors`` say why."""
        try:
            return call.value(stop)
        except Exception as error:  # any failure of a source is its own
            log.debug("collection failed", extra={"source": self.source.name}, exc_info=error)
            return SourceResult(
                self.source,
                errors=[said(error)],
                up=False,
                seconds=time.monotonic() - call.begun,
                place=raised_at(error),
            )

    def close(self, timeout_seconds: float) -> None:
        """Close the source and end the thread when it is idle. Raises the source's exception, or Hung."""
        try:
            self._thread.call(lambda: self._thread.resolve(self.source.close(), timeout_seconds), timeout_seconds)
        finally:
            self.end()

    def end(self) -> None:
        """End the thread when it is idle, without closing the source."""
        self._thread.close()


def read(source: MetricSource, given: CollectResult) -> SourceResult:
    """Read all that ``source.collect()`` returned, and check the types. Raises MetricError."""
    try:
        if not isinstance(given, Collection):
            return SourceResult(source, _all_of(source, "samples", given))
        errors = (given.errors,) if isinstance(given.errors, str) else given.errors
        metrics = _all_of(source, "metrics", given.metrics)
        if not all(isinstance(one, Metric) for one in metrics):
            raise MetricError(f"collect() of source {source.name!r} returned metrics {shown(metrics)}; return Metrics")
        return SourceResult(
            source,
            _all_of(source, "samples", given.samples),
            [one if isinstance(one, str) else shown(one) for one in _all_of(source, "errors", errors)],
            bool(given.up),
            metrics,
        )
    except TypeError as error:
        raise MetricError(
            f"collect() of source {source.name!r} returned {shown(given)} ({error}); return a list of Sample or a "
            "Collection"
        ) from None


def _all_of(source: MetricSource, what: str, given: Iterable[T]) -> tuple[T, ...]:
    """All items of ``given``. Raises MetricError for more than MOST_SAMPLES."""
    found = tuple(islice(given, MOST_SAMPLES + 1))
    if len(found) > MOST_SAMPLES:
        raise MetricError(
            f"collect() of source {source.name!r} returned more than {MOST_SAMPLES} {what}; return fewer, or find out "
            "why its generator has no end"
        )
    return found
