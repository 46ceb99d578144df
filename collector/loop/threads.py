"""SourceThreads: every source in a thread of its own, collected at once, each paying only for itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar, cast

from collector.loop.timeouts import Call, Runner
from collector.source import Collection, CollectResult, MetricSource, Sample
from shm.errors import MetricError
from shm.metric import Metric
from shm.safe_repr import said, shown

log = logging.getLogger(__name__)

T = TypeVar("T")

# What one collection may give: twice the series that a source may have at most. A generator without an end would take
# all of the host's memory, also in a thread that was left behind; this many samples, each with a label, take 72 MiB.
MOST_SAMPLES: Final = 200_000


@dataclass(frozen=True, slots=True)
class SourceResult:
    """What one source gave in one collection, and how long it took."""

    source: MetricSource
    collection: Collection
    seconds: float


class SourceThreads:
    """The runners of some sources, by name; a thread starts with its source's first call."""

    def __init__(self) -> None:
        self._runners: dict[str, Runner] = {}

    def collect(
        self, sources: Sequence[MetricSource], timeout_seconds: float, stop: Callable[[], bool] = lambda: False
    ) -> list[SourceResult]:
        """One result per source, in their order. Never raises for what a source does.

        One that raises, hangs past the timeout or gives nonsense has a Collection with ``up`` False and the reason.
        """
        begun = time.monotonic()
        calls = [(source, self._start(source, timeout_seconds)) for source in sources]
        results = []
        for source, call in calls:
            left = max(timeout_seconds - (time.monotonic() - begun), 0.0)
            try:
                if isinstance(call, Exception):
                    raise call
                collection, seconds = self._runner(source).wait(call, left, stop)
            except Exception as error:  # any failure of a source is its own
                log.debug("collection failed", extra={"source": source.name}, exc_info=error)
                collection, seconds = Collection((), (said(error),), up=False), time.monotonic() - begun
            results.append(SourceResult(source, collection, seconds))
        return results

    def run(
        self,
        source: MetricSource,
        job: Callable[[], object],
        timeout_seconds: float,
        done: Callable[[], object] = lambda: None,
    ) -> None:
        """Run ``job`` (open, close) where the source collects. Raises what it raises, Hung past the timeout.

        ``done`` is called there once it has ended well, also when nobody waits for it any more.
        """
        runner = self._runner(source)

        def bounded() -> None:
            result = job()
            if hasattr(result, "__await__"):
                runner.await_(result, timeout_seconds)
            done()

        runner.call(bounded, timeout_seconds)

    def stop(self) -> None:
        """End the threads that are idle; one that hangs is left to the end of the process."""
        for runner in self._runners.values():
            runner.stop()

    def _runner(self, source: MetricSource) -> Runner:
        runner = self._runners.get(source.name)
        return runner or self._runners.setdefault(source.name, Runner(source.name))

    def _start(self, source: MetricSource, timeout_seconds: float) -> Call[tuple[Collection, float]] | Exception:
        runner = self._runner(source)

        def timed() -> tuple[Collection, float]:
            begun = time.monotonic()
            return collect(source, runner, timeout_seconds), time.monotonic() - begun

        try:
            return runner.start(timed)
        except Exception as error:  # noqa: BLE001 - Hung, or no thread to be had: its own, and not the others'
            return error


def collect(source: MetricSource, runner: Runner, timeout_seconds: float) -> Collection:
    """One collection of ``source``, plain or async, all of it read. To be called in the thread of ``runner``."""
    result: object = source.collect()
    if hasattr(result, "__await__"):
        result = runner.await_(cast("Awaitable[CollectResult]", result), timeout_seconds)
    try:
        if not isinstance(result, Collection):
            return Collection(_all_of(source, "samples", cast("Iterable[Sample]", result)))
        errors = (result.errors,) if isinstance(result.errors, str) else result.errors
        metrics = _all_of(source, "metrics", result.metrics)
        if not all(isinstance(one, Metric) for one in metrics):
            raise MetricError(f"collect() of source {source.name!r} gave the metrics {shown(metrics)}; give Metrics")
        return Collection(
            _all_of(source, "samples", result.samples),
            tuple(one if isinstance(one, str) else shown(one) for one in _all_of(source, "errors", errors)),
            bool(result.up),
            metrics,
        )
    except TypeError as error:
        raise MetricError(
            f"collect() of source {source.name!r} gave {shown(result)} ({error}); give a list of Sample, or a "
            "Collection"
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
