"""Attack growth and churn: series come and go while readers read, and no sample is lost or credited to another.

The plan (:mod:`tests.siege.churn.plan`) says which series is in which frame, and what its sample is. A MetricCollector
commits an hour of simulated time by it, while the exporter's RingSet and its page /metrics/aggregated, each in a
process of its own (:mod:`tests.siege.churn.readers`), prove what they read by the same plan, through every rebuild. The
ring is also proven as a whole again and again, and its size and the collector's memory are bounded by the columns that
the plan needs. :mod:`tests.siege.churn.limits` attacks the cardinality limits.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Iterator

import psutil

from collector.frame.collector import MetricCollector
from shm.files import ring_path
from shm.ring.reader import RingReader
from tests.rings import SECOND_NS
from tests.siege.churn import limits
from tests.siege.churn.plan import METRICS, Plan, prove_count, prove_frames, value
from tests.siege.churn.readers import LIMIT_SECONDS
from tests.siege.harness import Counts, Effort, Mutant, own_namespace, require
from tests.siege.processes import asking

_SOURCE = "churn"
# More than any plan has: this part is not about limits.
_NO_LIMIT = 1_000_000
# What a collector's process may grow by in the second half of a run, beside its segment: 10,000 histograms that were
# kept would be 3 MiB, their keys as much.
_MOST_GROWTH_BYTES = 16 * 2**20
# Bytes of catalog per column of the ring: a third of the series have labels of 400 characters; a catalog is made for
# twice what the one before held.
_CATALOG_BYTES = 4 * (80 + 400 // 3)


def check(effort: Effort) -> Counts:
    counts: Counter[str] = Counter()
    largest = 0
    for plan in _plans(effort):
        with own_namespace() as namespace:
            largest = max(largest, _run(namespace, plan, counts))
    return {**counts, "largest segment, bytes": largest, **limits.check(effort)}


def _plans(effort: Effort) -> Iterator[Plan]:
    """An hour each: of 240 frames, in the long form from several seeds; and once of 3,600 frames, one a second."""
    series = effort.many(1_500, 10_000)
    if not effort.long:
        yield Plan(effort.seed, series, frames=120, capacity=24, interval_seconds=30)
        return
    for number in range(5):
        yield Plan(effort.seed + number, series, frames=240, capacity=40, interval_seconds=15)
    yield Plan(effort.seed, series, frames=effort.many(1, 3_600), capacity=300, interval_seconds=1)


def _run(namespace: str, plan: Plan, counts: Counter[str]) -> int:
    """Commit and prove every frame of the plan; the size of the largest segment."""
    given = json.dumps({name: getattr(plan, name) for name in Plan.GIVEN})
    largest = half = proven_at = generation = 0
    with contextlib.ExitStack() as stack:
        readers = [
            stack.enter_context(asking("tests.siege.churn.readers", kind, namespace, given, timeout=LIMIT_SECONDS + 30))
            for kind in ("rings", "page")
        ]
        collector = stack.enter_context(
            MetricCollector(
                _SOURCE, namespace=namespace, interval_seconds=plan.interval_seconds, capacity=plan.capacity,
                max_series=_NO_LIMIT, max_series_per_metric=_NO_LIMIT,
            )
        )  # fmt: skip
        collector.register(*METRICS)
        for sequence in range(1, plan.frames + 1):
            for k in plan.of_frame(sequence):
                recorded = collector.record_metric(plan.metric(k).name, value(k, sequence), plan.labels(k))
                require(recorded, f"a sample of series {k} was dropped, and no limit was reached")
            written = collector.commit(plan.timestamp_ns(sequence), sequence * plan.interval_seconds * SECOND_NS)
            require(written == sequence, f"frame {written} was committed as number {sequence}")
            rebuilt = collector.writer.header.generation != generation
            if rebuilt or sequence - proven_at >= max(plan.capacity // 8, 1) or sequence == plan.frames:
                counts["samples proven in the whole ring"] += _prove_whole(namespace, plan, sequence)
                proven_at, generation = sequence, collector.writer.header.generation
                largest = max(largest, _bounded(namespace, collector, plan))
            if sequence == plan.frames // 2:
                half = _own_bytes()
            time.sleep(0.005)  # so that readers read in between, on any machine
        grown = _own_bytes() - half
        require(grown < _MOST_GROWTH_BYTES, f"memory: the collector grew by {grown:,} bytes in half of its run")
        counts.update({
            "series that came and went": plan.series, "frames committed": plan.frames, "rebuilds": generation,
        })  # fmt: skip
        for reader in readers:
            counts.update({name: int(count) for name, count in reader().items()})
    return largest


def _prove_whole(namespace: str, plan: Plan, newest: int) -> int:
    """With no writer at work, every frame that the ring has a slot for is there, less the guard, and is right."""
    with RingReader(namespace, _SOURCE) as reader:
        frames = reader.frames()
        held = min(newest, plan.capacity)
        require(
            frames.skipped == 0 and len(frames.sequence) >= held - 4 and int(frames.sequence[-1]) == newest,
            f"of {newest} frames the ring holds {len(frames.sequence)}, the last {frames.sequence[-1:]}",
        )
        oldest = reader.frame(int(frames.sequence[0]))
        require(oldest is not None, f"the frame {frames.sequence[0]} is whole in the window and not by itself")
        assert oldest is not None
        samples = prove_frames(plan, frames, reader.series, "in the whole ring")
        prove_count(plan, oldest, reader.series, "in the oldest frame")
        return samples


def _bounded(namespace: str, collector: MetricCollector, plan: Plan) -> int:
    """Whatever grows is bounded by the columns that the plan needs at once; the segment's size in bytes."""
    header = collector.writer.header
    # A ring grows by half when less than a quarter of it is free: twice what is needed at most.
    width = 2 * plan.most_columns + 16
    require(
        header.width <= width, f"memory: the ring has {header.width} columns, and the plan never needs {width // 2}"
    )
    most = width * _CATALOG_BYTES + 8192
    require(header.catalog_bytes <= most, f"memory: the catalog takes {header.catalog_bytes} bytes, more than {most}")
    size = ring_path(namespace, _SOURCE).stat().st_size
    require(size == header.segment_bytes, f"memory: the segment has {size} bytes for {header.segment_bytes}")
    for what in ("_known", "_histograms"):
        over = len(set(getattr(collector, what)) - set(collector.writer.columns))
        require(not over, f"memory: the collector keeps {over} series in {what} that have no column any more")
    return size


def _own_bytes() -> int:
    """The memory that this process shares with none; the pages of the segment are shared."""
    memory = psutil.Process().memory_info()
    return int(memory.rss - memory.shared)


MUTANTS = (
    Mutant(
        "churn", "a rebuild joins columns that are no neighbours", "shm.ring.lifecycle:_blocks",
        patch="def fault(kept): return [(kept[0].column, kept[-1].end)] if kept else []",
        says="a sample is", scale=0.3,
    ),
    Mutant(
        "churn", "a rebuild frees what the older half of the ring has samples of", "shm.ring.lifecycle:still_present",
        code="reversed(history)", becomes="reversed(history[len(history) // 2 :])", says="a sample is lost", scale=0.3,
    ),
    Mutant(
        "churn", "a rebuild counts columns in a frame that are younger", "shm.ring.lifecycle:_carry_frames",
        code="max(min(end, frame.count) - start, 0)", becomes="end - start", says="which is younger", scale=0.3,
    ),
    Mutant(
        "churn", "the series of a metric are counted up and never down",
        "collector.frame.cardinality:Cardinality.reload",
        patch="""
            def fault(self, *staged):
                before = self._series_of
                original(self, *staged)
                self._series_of |= before
        """,
        says="frees do not come back", scale=0.3,
    ),
    Mutant(
        "churn", "a dropped sample is not counted", "collector.frame.cardinality:Cardinality.drop",
        code="self.dropped += 1", becomes="pass", says="dropped samples are counted", scale=0.3,
    ),
    Mutant(
        "churn", "a series with a sample in the frame gives its place", "collector.frame.eviction:Eviction.__init__",
        patch="def fault(self, places, present, *limits): original(self, places, frozenset(), *limits)",
        says="series for a limit of", scale=0.3,
    ),
    Mutant(
        "churn", "another than the oldest gives its place", "collector.frame.cardinality:Cardinality._oldest_first",
        patch="def fault(self, names): return {name: keys[::-1] for name, keys in original(self, names).items()}",
        says="last sample is older", scale=0.3,
    ),
    Mutant(
        "churn", "a series that gave its place stays in the ring", "shm.ring.writer:RingWriter.prune",
        code="series_key(series) not in gone", becomes="True", says="series for a limit of", scale=0.3,
    ),
    Mutant(
        "churn", "histograms of freed series are kept for ever",
        "collector.frame.collector:MetricCollector._enter_series",
        patch="""
            def fault(self):
                histograms = self._histograms
                original(self)
                self._histograms = histograms
        """,
        says="series in _histograms", scale=0.3,
    ),
    Mutant(
        "churn", "the exporter reads a new segment by the catalog of the one before",
        "exporter.rings:RingSet._update",
        patch="""
            def fault(self, source):
                original(self, source)
                if source in self.rings:
                    reader = self.rings[source].reader
                    reader._catalog = self.__dict__.setdefault("_kept", reader._catalog)
        """,
        says="a sample is", scale=0.3,
    ),
    Mutant(
        "churn", "the page of statistics is laid out for the segment before", "exporter.rings:RingSet.key",
        patch="def fault(self): return tuple(self.rings)", says="by page: a sample is", scale=0.3,
    ),
)  # fmt: skip
