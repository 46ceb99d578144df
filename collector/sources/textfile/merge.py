"""Which files' metrics may stand beside one another: the first that has a name, a shape, a series, keeps it.

Two files may have samples of one metric, as long as they agree on its type, label names and buckets and have not the
same series; of two helps the first is taken. Where they do not agree the later file is refused as a whole: half of a
file would look like all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from collector.source import Sample
from collector.sources.prometheus_text import BadText
from collector.sources.textfile.translation import Told
from shm.metric import Metric


class NoRoom(BadText):
    """A file of so many ``samples`` that there would be more than may be kept."""

    def __init__(self, line: int, most: int, samples: int) -> None:
        super().__init__(line, f"with its samples there would be more than {most}; leave some out, or whole files")
        self.samples = samples


class Merged:
    """The metrics and samples of the files taken so far. ``own``: what no file may have."""

    def __init__(self, own: Iterable[Metric], max_samples: int) -> None:
        self.metrics: dict[str, Metric] = {}
        self.samples: list[Sample] = []
        self._most = max_samples
        self._names = {name: _Owner(metric, "") for metric in own for name in metric.sample_names}
        self._first: dict[str, tuple[str, Told]] = {}  # by metric: the first file that has it
        self._files: dict[str, dict[_Series, str]] = {}  # of metrics that several files have: the file of each series

    @property
    def room(self) -> int:
        """How many more samples there may be."""
        return self._most - len(self.samples)

    def take(self, file: str, told: Sequence[Told]) -> None:
        """All of a file, or BadText and none of it. It is checked against itself as well."""
        if (samples := sum(len(one.samples) for one in told)) > self.room:
            raise NoRoom(told[0].line, self._most, samples)
        series: dict[str, list[_Series]] = {}
        names: dict[str, _Owner] = {}
        mine: set[str] = set()
        for one in told:
            if one.metric.name in mine:
                raise BadText(one.line, f"{one.metric.name} is two metrics of this file; rename one")
            mine.add(one.metric.name)
            for name in one.metric.sample_names:
                self._check(names.get(name) or self._names.get(name), name, one)
                names.setdefault(name, _Owner(one.metric, file))
            series[one.metric.name] = self._check_series(one)
        self._names = names | self._names
        for one in told:
            self.metrics.setdefault(one.metric.name, one.metric)
            self.samples += one.samples
            self._first.setdefault(one.metric.name, (file, one))
            for its in series[one.metric.name]:
                self._files[one.metric.name][its] = file

    def _check(self, owner: _Owner | None, name: str, one: Told) -> None:
        metric = one.metric
        if owner is None:
            return
        if owner.metric.name != metric.name or not owner.file:
            raise BadText(
                one.line,
                f"the name {name} belongs to the {owner.metric.type} {owner.metric.name} of "
                f"{owner.file or 'fogmetrics itself'}; rename one",
            )
        if _shape(owner.metric) != _shape(metric):
            raise BadText(
                one.line,
                f"{metric.name} is of type {_described(metric)}, but in {owner.file} {_described(owner.metric)}; "
                "rename one, or make them the same",
            )

    def _check_series(self, one: Told) -> list[_Series]:
        """The series of a metric that other files have as well; nothing where this is the first."""
        name = one.metric.name
        if name not in self._first:
            return []
        if name not in self._files:
            file, first = self._first[name]
            self._files[name] = dict.fromkeys(map(_series, first.samples), file)
        files, series = self._files[name], [_series(sample) for sample in one.samples]
        taken = next((files[its] for its in series if its in files), None)
        if taken is not None:
            raise BadText(
                one.line, f"a series of {name} is in {taken} too; leave one of them, or give it a label of its own"
            )
        return series


_Series = frozenset[tuple[str, str]]


class _Owner(NamedTuple):
    """Who has the name of a sample; no file for the daemon itself."""

    metric: Metric
    file: str


def _series(sample: Sample) -> _Series:
    return frozenset(sample.labels.items())


def _shape(metric: Metric) -> tuple[str, frozenset[str], tuple[float, ...]]:
    """As Metric.shape, but the order of label names is no one's business: samples carry theirs by name."""
    return metric.type, frozenset(metric.label_names), metric.buckets


def _described(metric: Metric) -> str:
    text = f"{metric.type} with the labels ({', '.join(sorted(metric.label_names))})"
    return f"{text} and the buckets {', '.join(f'{bound:g}' for bound in metric.buckets)}" if metric.buckets else text
