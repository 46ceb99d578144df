"""The cardinality limits: what exceeds them is dropped, counted and named, or takes the place of the oldest series.

Series that come by chance, more than the limits allow, are offered to a small ring. A model knows which samples were
taken, and the last sample of each series; what the ring, the log, /stats and the exporter show must agree with it. A
sample's value tells its series and its frame.
"""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Iterable
from logging.handlers import BufferingHandler

from collector.frame.collector import MetricCollector
from collector.frame.rules import Rules
from collector.loop.selfmetrics import SelfMetrics
from collector.settings import MetricConfig
from exporter.rings import RingSet
from exporter.status.stats import stats
from shm.metric import Metric
from shm.ring.frame import absent
from shm.ring.reader import RingReader
from tests.rings import SECOND_NS
from tests.siege.harness import Counts, Effort, own_namespace, require

_SOURCE = "limits"
_CAPACITY = 16
# From the last sample of a series to the tick in which its place is free again: the ring full of frames without it, and
# the pause between two searches for places (an eighth of a ring).
_FREED_AFTER = _CAPACITY + _CAPACITY // 8 + 2
_STARTED_NS = 1_700_000_000 * SECOND_NS

GAUGE = Metric("limited_gauge", "gauge", "A series of too many.", "", ("k",))
HISTOGRAM = Metric("limited_histogram", "histogram", "A series of too many.", "", ("k",), (0.5,))
_METRICS = (GAUGE, HISTOGRAM)
_Key = tuple[str, int]


def check(effort: Effort) -> Counts:
    chance = effort.random()
    done: Counter[str] = Counter()
    for _ in range(effort.many(3, 200)):
        with own_namespace() as namespace:
            _check_dropped(namespace, chance, done)
    for _ in range(effort.many(2, 60)):
        with own_namespace() as namespace:
            _Oldest(namespace, chance, done).run()
    return dict(done)


def _value(key: _Key, tick: int) -> float:
    return float(key[1] + tick * 2**20)


def _key(metric: Metric, label_values: tuple[str, ...]) -> _Key:
    return metric.name, int(label_values[0])


def _record(collector: MetricCollector, offered: Iterable[_Key], tick: int) -> set[_Key]:
    """Record the offered samples of a frame; the series whose sample was taken."""
    return {key for key in offered if collector.record_metric(key[0], _value(key, tick), {"k": str(key[1])})}


def _commit(collector: MetricCollector, tick: int) -> None:
    sequence = collector.commit(_STARTED_NS + tick * SECOND_NS, tick * SECOND_NS)
    require(sequence == tick, f"frame {sequence} was committed as number {tick}")


# ---- series beyond a limit are dropped -------------------------------------------------------------------------


def _check_dropped(namespace: str, chance: random.Random, done: Counter[str]) -> None:
    """Three generations of series, each new: dropped beyond the limits, counted, and named in the log and in /stats."""
    per_metric = chance.randint(5, 20)
    most = per_metric + chance.randint(1, per_metric)
    limits = {GAUGE.name: per_metric, HISTOGRAM.name: most}  # which of the two each metric meets
    warnings, log = BufferingHandler(1000), logging.getLogger("collector.frame.cardinality")
    log.addHandler(warnings)
    tick = dropped = number = 0
    with MetricCollector(
        _SOURCE, namespace=namespace, interval_seconds=1, capacity=_CAPACITY, max_series=most,
        max_series_per_metric=per_metric,
    ) as collector:  # fmt: skip
        collector.register(*_METRICS)
        own = SelfMetrics(collector, _SOURCE)

        def commit() -> set[_Key]:
            nonlocal tick, dropped
            tick += 1
            taken = _record(collector, offered, tick)
            own.record(True, 0.0, _STARTED_NS)
            _commit(collector, tick)
            dropped += len(offered) - len(taken)
            counted = collector.cardinality.dropped
            require(counted == dropped, f"{counted} dropped samples are counted, and {dropped} were dropped")
            with RingReader(namespace, _SOURCE) as reader:
                frame = reader.latest()
                assert frame is not None
                columns = {_key(s.metric, s.label_values): s.column for s in reader.series if not s.metric.own}
            there = {key: value for key, column in columns.items() if (value := frame.value(column)) is not None}
            require(there == {key: _value(key, tick) for key in taken}, "a frame has other samples than were taken")
            require(len(columns) <= most, f"the ring holds {len(columns)} series for a limit of {most}")
            return taken

        for generation in range(3):
            offered = []
            for metric in _METRICS:
                first, number = number, number + per_metric + chance.randint(1, 9)
                offered += [(metric.name, k) for k in range(first, number)]
            taken: set[_Key] = set()
            for waited in range(_FREED_AFTER + 1):
                before, taken = taken, commit()
                require(before <= taken, f"a series that was let in is dropped: {sorted(before - taken)[:3]}")
                if len(taken) == most:
                    break
                require(
                    waited < (_FREED_AFTER if generation else 0),
                    f"frees do not come back: {len(taken)} of {most} series were let in {waited} frames after the last "
                    "sample of those before",
                )
            for _ in range(chance.randint(1, _CAPACITY)):
                require(commit() == taken, "which series are let in changes while all are present")
            gauges = sum(name == GAUGE.name for name, _ in taken)
            require(gauges <= per_metric, f"{gauges} series for a limit of {per_metric}")
            done["series let in at limits"] += len(taken)
    log.removeHandler(warnings)
    warned = sorted(vars(record)["metric"] for record in warnings.buffer if record.msg == "series dropped")
    require(warned == sorted(limits), f"not each metric is warned of once: {warned}")
    rings = RingSet(namespace)
    found = stats(rings)["rings"][_SOURCE]
    rings.close()
    named = found["limited_metrics"]
    require(
        set(named) == set(limits) and set(named.values()) <= {per_metric, most}, f"/stats names {named} for {limits}"
    )
    require(found["dropped_samples"] == dropped, f"/stats counts {found['dropped_samples']} of {dropped}")
    done["samples dropped at limits"] += dropped


# ---- series beyond a limit take the place of the oldest --------------------------------------------------------


class _Oldest:
    """One ring that laps, with a limit by chance."""

    def __init__(self, namespace: str, chance: random.Random, done: Counter[str]) -> None:
        self.namespace, self.chance, self.done = namespace, chance, done
        self.limit = chance.randint(3, 12)
        self.seconds = 0.0
        # Of the series that have a place: the frames of their samples since they have it.
        self.taken: dict[_Key, list[int]] = {}

    def run(self) -> None:
        rules = Rules({"limited_*": MetricConfig(max_series=self.limit, beyond="oldest")})
        with MetricCollector(_SOURCE, namespace=self.namespace, capacity=_CAPACITY, rules=rules) as collector:
            collector.cardinality.clock = lambda: self.seconds
            collector.register(*_METRICS)
            rings = RingSet(self.namespace)
            for tick in range(1, 121):
                self.seconds += self.chance.choice((0.0, 100.0))
                newest = tick // 2
                offered = {
                    (metric.name, self.chance.randint(max(newest - self.limit, 0), newest))
                    for metric in _METRICS
                    for _ in range(self.chance.randint(0, self.limit))
                }
                present = _record(collector, sorted(offered), tick)
                _commit(collector, tick)
                let_in = self._check_frames(present, tick)
                [ring] = rings.refresh()
                latest = {
                    _key(one.metric, one.label_values)
                    for one in ring.series
                    if one.column < len(ring.latest) and not absent(ring.latest[one.column : one.column + 1])[0]
                }
                require(latest == let_in, "the exporter sees other series than were let in")
            rings.close()
            self.done["series pruned"] += collector.cardinality.pruned.total()

    def _check_frames(self, present: set[_Key], tick: int) -> set[_Key]:
        """Every sample in the ring is its series' own, and none is lost; the series of the newest frame."""
        with RingReader(self.namespace, _SOURCE) as reader:
            columns = {_key(one.metric, one.label_values): one.column for one in reader.series}
            let_in = columns.keys() & present
            self._check_places(set(columns), present, tick)
            for key in let_in:
                self.taken.setdefault(key, []).append(tick)
            frames = reader.frames()
            for key, column in columns.items():
                values = frames.values[:, column].copy()
                there = ~absent(values)
                sequences = frames.sequence[there].tolist()
                require(
                    values[there].tolist() == [_value(key, s) for s in sequences],
                    f"a sample is credited to another series: {key} has {values[there].tolist()}",
                )
                held = [s for s in self.taken[key] if s >= int(frames.sequence[0])]
                require(sequences == held, f"a sample is lost or in another frame: {key} has {sequences} for {held}")
                self.done["samples proven beside pruned ones"] += len(held)
            frame = reader.frame(tick)
            assert frame is not None
            for key in let_in:
                if key[0] == HISTOGRAM.name:
                    count, taken = frame.value(columns[key] + 2), len(self.taken[key])
                    require(count == taken, f"a histogram counts {count} for {taken}: {key}")
        return let_in

    def _check_places(self, places: set[_Key], present: set[_Key], tick: int) -> None:
        """The oldest series gave their places, and none that has a sample in the frame."""
        for metric in _METRICS:
            here = {key for key in places if key[0] == metric.name}
            require(len(here) <= self.limit, f"the ring holds {len(here)} series for a limit of {self.limit}")
            gone = {key for key in self.taken if key[0] == metric.name} - here
            require(not gone & present, f"a series with a sample in the frame gave way: {sorted(gone & present)}")
            stay = [self.taken[key][-1] for key in here - present if key in self.taken]
            for key in gone:
                last = self.taken.pop(key)[-1]
                require(last <= min(stay, default=tick), f"{key} gave way, and another's last sample is older")
