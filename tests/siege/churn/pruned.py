"""Series that take the places of the oldest: no sample of one is credited to another, and it is the oldest that goes.

Newcomers by chance, more than the places, are offered to a small ring whose frames lap. A sample's value says whose it
is and of which frame. A model beside knows the last sample of each series, and so who had to give way.
"""

from __future__ import annotations

import random
from collections import Counter

from collector.frame.collector import MetricCollector
from collector.frame.rules import Rules
from collector.settings import MetricConfig
from exporter.rings import RingSet
from shm.metric import Metric
from shm.ring.frame import absent
from shm.ring.reader import RingReader
from tests.rings import SECOND_NS
from tests.siege.harness import Counts, Effort, own_namespace, require

_SOURCE = "pruned"
_CAPACITY = 24
_STRIDE = 2**20
_STARTED_NS = 1_700_000_000 * SECOND_NS

GAUGE = Metric("pruned_gauge", "gauge", "A series of too many.", "", ("k",))
HISTOGRAM = Metric("pruned_histogram", "histogram", "A series of too many.", "", ("k",), (0.5,))
_Key = tuple[str, int]


def check(effort: Effort) -> Counts:
    chance = effort.random()
    done: Counter[str] = Counter()
    for _ in range(effort.many(2, 60)):
        with own_namespace() as namespace:
            _Run(namespace, chance, done).run()
    return dict(done)


class _Run:
    def __init__(self, namespace: str, chance: random.Random, done: Counter[str]) -> None:
        self.namespace = namespace
        self.chance = chance
        self.done = done
        self.limit = chance.randint(3, 12)
        self.seconds = 0.0
        self.last: dict[_Key, int] = {}  # of those that have a place: the frame of the last sample
        self.taken: dict[_Key, list[int]] = {}  # since they have it: the frames of all of them

    def run(self) -> None:
        rules = Rules({"pruned_*": MetricConfig(max_series=self.limit, beyond="oldest")})
        with MetricCollector(_SOURCE, namespace=self.namespace, capacity=_CAPACITY, rules=rules) as collector:
            collector.cardinality.clock = lambda: self.seconds
            collector.register(GAUGE, HISTOGRAM)
            self.rings = RingSet(self.namespace)
            for tick in range(1, 121):
                self.seconds += self.chance.choice((0.0, 100.0))
                self._commit(collector, tick)
            self.rings.close()
            self.done["series pruned"] += collector.cardinality.pruned.total()

    def _commit(self, collector: MetricCollector, tick: int) -> None:
        newest = tick // 2
        present: set[_Key] = set()
        for metric in (GAUGE, HISTOGRAM):
            for _ in range(self.chance.randint(0, self.limit)):
                key = metric.name, self.chance.randint(max(newest - self.limit, 0), newest)
                if key not in present and collector.record_metric(key[0], _value(key, tick), {"k": str(key[1])}):
                    present.add(key)
        sequence = collector.commit(_STARTED_NS + tick * SECOND_NS, tick * SECOND_NS)
        require(sequence == tick, f"frame {sequence} was committed as the {tick}th")
        with RingReader(self.namespace, _SOURCE) as reader:
            columns = {_key(one.metric, one.label_values): one.column for one in reader.series}
            self._who_went(columns.keys() & present, set(columns), present, tick)
            frames = reader.frames()
            for key, column in columns.items():
                values = frames.values[:, column].copy()
                there = [int(s) for s, gone in zip(frames.sequence, absent(values), strict=True) if not gone]
                found = [
                    value for value, gone in zip(values.tolist(), absent(values).tolist(), strict=True) if not gone
                ]
                require(
                    found == [_value(key, s) for s in there],
                    f"a sample is credited to another series: {key} has {found}",
                )
                held = [s for s in self.taken[key] if s >= int(frames.sequence[0])]
                require(there == held, f"a sample is lost or credited to another frame: {key} has {there} for {held}")
                self.done["samples proven beside pruned ones"] += len(there)
            frame = reader.frame(tick)
            assert frame is not None
            for key in columns.keys() & present:
                if key[0] == HISTOGRAM.name:
                    count = frame.value(columns[key] + 2)
                    require(
                        count == len(self.taken[key]), f"a histogram counts {count} for {len(self.taken[key])}: {key}"
                    )
        [ring] = self.rings.refresh()
        latest = {
            _key(one.metric, one.label_values)
            for one in ring.series
            if one.column < len(ring.latest) and not absent(ring.latest[one.column : one.column + 1])[0]
        }
        require(latest == columns.keys() & present, "the exporter sees another series than were let in")

    def _who_went(self, let_in: set[_Key], places: set[_Key], present: set[_Key], tick: int) -> None:
        """By the model: who had to go went, nobody else did."""
        for metric in (GAUGE.name, HISTOGRAM.name):
            here = {key for key in places if key[0] == metric}
            require(len(here) <= self.limit, f"the ring holds {len(here)} series for a limit of {self.limit}")
            gone = {key for key in self.last if key[0] == metric} - here
            require(not gone & present, f"a series with a sample in the frame gave way: {sorted(gone & present)}")
            stay = [self.last[key] for key in here if key in self.last and key not in present]
            for key in gone:
                require(
                    self.last[key] <= min(stay, default=tick), f"{key} gave way, and another's last sample is older"
                )
                del self.last[key], self.taken[key]
        for key in let_in:
            self.last[key] = tick
            self.taken.setdefault(key, []).append(tick)


def _key(metric: Metric, label_values: tuple[str, ...]) -> _Key:
    return metric.name, int(label_values[0])


def _value(key: _Key, tick: int) -> float:
    return float(key[1] * _STRIDE + tick)
