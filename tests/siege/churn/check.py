"""Growth and churn: series come and go while readers read.

The plan (churn_plan.py) says which series is in which frame, and what its sample is. A MetricCollector commits an hour
of simulated time by it, while a RingReader, the exporter's RingSet and its page /metrics/aggregated, each in a process
of its own, prove what they read by the same plan: no sample is lost or credited to another series, through every
rebuild. Beside that, the ring is proven as a whole again and again, and what grows is bounded by what the plan needs.
The cardinality limits are tried by churn_limits.py, the places that newer series take by churn_pruned.py.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from collector.frame.collector import MetricCollector
from shm.files import ring_path
from shm.metric import SeriesKey
from shm.ring.reader import RingReader
from tests.rings import SECOND_NS, end
from tests.siege.churn import limits as churn_limits
from tests.siege.churn import pruned as churn_pruned
from tests.siege.churn.plan import METRICS, Plan, prove_frame, prove_frames, value
from tests.siege.churn.readers import KINDS, LIMIT_SECONDS, SOURCE
from tests.siege.harness import ROOT, VIOLATED, Counts, Effort, Mutant, Violation, own_namespace, require

# Longer than any plan: this is about series, not about limits.
_NO_LIMIT = 1_000_000
# What a collector's process may grow by in the second half of a run. It holds the segment (counted apart), and nothing
# that grows with the series that ever were: 10,000 histograms would be 3 MiB, their keys as much.
_MOST_GROWTH_BYTES = 16 * 2**20
# Bytes of catalog per column of the ring: a third of the series have labels of 400 characters; a catalog is made for
# twice what the one before held.
_CATALOG_BYTES = 4 * (80 + 400 // 3)


@dataclass
class Tally:
    series: int = 0
    frames: int = 0
    samples: int = 0
    rebuilds: int = 0
    largest: int = 0
    readings: int = 0
    read_frames: int = 0
    read_samples: int = 0


def check(effort: Effort) -> Counts:
    tally = Tally()
    plans = list(_plans(effort))
    for plan in plans:
        with own_namespace() as namespace:
            _run(namespace, plan, tally)
    limits = {**churn_limits.check(effort), **churn_pruned.check(effort)}
    return {
        "simulated hours": len(plans),
        "series that came and went": tally.series,
        "frames committed": tally.frames,
        "rebuilds": tally.rebuilds,
        "samples proven in the whole ring": tally.samples,
        "times that readers read the ring": tally.readings,
        "frames that they proved": tally.read_frames,
        "samples that they proved": tally.read_samples,
        "largest segment, bytes": tally.largest,
        **limits,
    }


def _plans(effort: Effort) -> Iterator[Plan]:
    """An hour each: of 240 frames, in the long form from several seeds; and once of 3,600 frames, one a second."""
    series = effort.many(1_500, 10_000)
    if not effort.long:
        yield Plan(effort.seed, series, frames=120, capacity=24, interval_seconds=30)
        return
    for number in range(5):
        yield Plan(effort.seed + number, series, frames=240, capacity=40, interval_seconds=15)
    yield Plan(effort.seed, series, frames=effort.many(1, 3_600), capacity=300, interval_seconds=1)


def _run(namespace: str, plan: Plan, tally: Tally) -> None:
    with contextlib.ExitStack() as stack:
        readers = [_reader(stack, kind, namespace, plan) for kind in KINDS]
        collector = stack.enter_context(
            MetricCollector(
                SOURCE, namespace=namespace, interval_seconds=plan.interval_seconds, capacity=plan.capacity,
                max_series=_NO_LIMIT, max_series_per_metric=_NO_LIMIT,
            )
        )  # fmt: skip
        collector.register(*METRICS)
        half = 0
        proven_at = generation = 0
        for sequence in range(1, plan.frames + 1):
            _record(collector, plan, sequence)
            written = collector.commit(plan.timestamp_ns(sequence), sequence * plan.interval_seconds * SECOND_NS)
            require(written == sequence, f"the frame {written} was committed as the {sequence}th")
            rebuilt = collector.writer.header.generation != generation
            if rebuilt or sequence - proven_at >= max(plan.capacity // 8, 1) or sequence == plan.frames:
                tally.samples += _prove_whole(namespace, plan, sequence)
                proven_at, generation = sequence, collector.writer.header.generation
                tally.largest = max(tally.largest, _bounded(namespace, collector, plan))
            if sequence == plan.frames // 2:
                half = _resident_bytes()
            time.sleep(0.005)  # so that readers read in between, on any machine
        grown = _resident_bytes() - half
        require(grown < _MOST_GROWTH_BYTES, f"memory: the collector grew by {grown:,} bytes in half of its run")
        require(collector.series_dropped == 0, f"{collector.series_dropped} samples were dropped without a limit")
        tally.series += plan.series
        tally.frames += plan.frames
        tally.rebuilds += collector.writer.header.generation
        for process in readers:
            found = _report(process)
            tally.readings += found["readings"]
            tally.read_frames += found["frames"]
            tally.read_samples += found["samples"]


def _record(collector: MetricCollector, plan: Plan, sequence: int) -> None:
    for k in plan.of_frame(sequence):
        recorded = collector.record_metric(plan.metric(k).name, value(k, sequence), plan.labels(k))
        require(recorded, f"a sample of series {k} was dropped, and no limit was reached")


def _prove_whole(namespace: str, plan: Plan, newest: int) -> int:
    """Nobody writes now: every frame that the ring has a slot for is there, less the guard, and is what it was."""
    with RingReader(namespace, SOURCE) as reader:
        frames = reader.frames()
        held = min(newest, plan.capacity)
        require(
            frames.skipped == 0 and len(frames.sequence) >= held - 4 and int(frames.sequence[-1]) == newest,
            f"of {newest} frames the ring holds {len(frames.sequence)}, the last {frames.sequence[-1:]}",
        )
        oldest = reader.frame(int(frames.sequence[0]))
        require(oldest is not None, f"the frame {frames.sequence[0]} is whole in the window and not by itself")
        assert oldest is not None
        prove_frame(plan, oldest, reader.series, "in the oldest frame")
        return prove_frames(plan, frames, reader.series, "in the whole ring")


def _bounded(namespace: str, collector: MetricCollector, plan: Plan) -> int:
    """Whatever grows is bounded by the columns that the plan needs at once. The segment's size in bytes."""
    header = collector.writer.header
    # A ring grows by half when less than a quarter of it is free: twice what is needed at most.
    width = 2 * plan.most_columns + 16
    require(
        header.width <= width, f"memory: the ring has {header.width} columns, and the plan never needs {width // 2}"
    )
    most = width * _CATALOG_BYTES + 8192
    require(header.catalog_bytes <= most, f"memory: the catalog takes {header.catalog_bytes} bytes, more than {most}")
    size = ring_path(namespace, SOURCE).stat().st_size
    require(size == header.segment_bytes, f"memory: the segment has {size} bytes for {header.segment_bytes}")
    columns = set(collector.writer.columns)
    for what, kept in _kept(collector):
        over = len(kept - columns)
        require(not over, f"memory: the collector keeps {over} series in {what} that have no column any more")
    return size


def _kept(collector: MetricCollector) -> Sequence[tuple[str, set[SeriesKey]]]:
    return ("_known", set(collector._known)), ("_histograms", set(collector._histograms))


def _resident_bytes() -> int:
    """Of memory of its own; the pages of the segment are shared, and bounded by its size."""
    with open("/proc/self/status") as file:
        [line] = [line for line in file if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024


def _reader(stack: contextlib.ExitStack, kind: str, namespace: str, plan: Plan) -> subprocess.Popen[str]:
    given = {name: getattr(plan, name) for name in ("seed", "series", "frames", "capacity", "interval_seconds")}
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.siege.churn.readers", kind, namespace, json.dumps(given)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    stack.callback(end, process)
    return process


def _report(process: subprocess.Popen[str]) -> dict[str, int]:
    """What it read; Violation where it saw one."""
    try:
        said, errors = process.communicate(timeout=LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        raise Violation(f"a reader hangs: {process.args!r}") from None
    if process.returncode == VIOLATED:
        raise Violation(errors.strip())
    assert process.returncode == 0, errors
    found: dict[str, int] = json.loads(said.splitlines()[-1])
    return found


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
            def fault(self, keys):
                histograms = self._histograms
                original(self, keys)
                self._histograms = histograms
        """,
        says="series in _histograms", scale=0.3,
    ),
    Mutant(
        "churn", "the exporter reads a new segment by the catalog of the one before",
        "exporter.rings:RingSet._follow",
        patch="""
            def fault(self, source):
                original(self, source)
                reader = self.rings[source].reader
                reader._catalog = self.__dict__.setdefault("_kept", reader._catalog)
        """,
        says="by RingSet", scale=0.3,
    ),
    Mutant(
        "churn", "the page of statistics is laid out for the segment before", "exporter.rings:RingSet.key",
        patch="def fault(self): return tuple(self.rings)", says="by page: a sample is", scale=0.3,
    ),
)  # fmt: skip
