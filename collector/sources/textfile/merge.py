"""Which files' metrics may stand beside one another: the first that has a name, a shape, a series, keeps it.

Two files may have samples of one metric, as long as they agree on its type, label names and buckets and have not the
same series; of two helps the first is taken. Where they do not agree the later file is refused as a whole: half of a
file would look like all of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from collector.source import Sample
from collector.sources.textfile.exposition import BadText
from collector.sources.textfile.translation import Told
from shm.catalog import Metric


class Merged:
    """The metrics and samples of the files taken so far. ``own``: what no file may have."""

    def __init__(self, own: Iterable[Metric], max_samples: int) -> None:
        self.metrics: dict[str, Metric] = {}
        self.samples: list[Sample] = []
        self._most = max_samples
        self._names = {name: _Owner(metric, "") for metric in own for name in metric.sample_names}
        self._told: dict[str, list[tuple[str, Told]]] = {}  # by metric: the files that have it

    def take(self, file: str, told: Sequence[Told]) -> None:
        """All of a file, or BadText and none of it. It is checked against itself as well."""
        if sum(len(one.samples) for one in told) + len(self.samples) > self._most:
            raise BadText(
                told[0].line, f"with its samples there would be more than {self._most}; leave some out, or whole files"
            )
        names: dict[str, _Owner] = {}
        mine: set[str] = set()
        for one in told:
            if one.metric.name in mine:
                raise BadText(one.line, f"{one.metric.name} is two metrics of this file; rename one")
            mine.add(one.metric.name)
            for name in one.metric.sample_names:
                self._check(names.get(name) or self._names.get(name), name, one)
                names.setdefault(name, _Owner(one.metric, file))
            self._check_series(one)
        self._names = names | self._names
        for one in told:
            self.metrics.setdefault(one.metric.name, one.metric)
            self.samples += one.samples
            self._told.setdefault(one.metric.name, []).append((file, one))

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

    def _check_series(self, one: Told) -> None:
        for file, other in self._told.get(one.metric.name, ()):
            theirs = {_series(sample) for sample in other.samples}
            if any(_series(sample) in theirs for sample in one.samples):
                raise BadText(
                    one.line,
                    f"a series of {one.metric.name} is in {file} too; leave one of them, or give it a label of its own",
                )


class _Owner(NamedTuple):
    """Who has the name of a sample; no file for the daemon itself."""

    metric: Metric
    file: str


def _series(sample: Sample) -> frozenset[tuple[str, str]]:
    return frozenset(sample.labels.items())


def _shape(metric: Metric) -> tuple[str, frozenset[str], tuple[float, ...]]:
    """As Metric.shape, but the order of label names is no one's business: samples carry theirs by name."""
    return metric.type, frozenset(metric.label_names), metric.buckets


def _described(metric: Metric) -> str:
    text = f"{metric.type} with the labels ({', '.join(sorted(metric.label_names))})"
    return f"{text} and the buckets {', '.join(f'{bound:g}' for bound in metric.buckets)}" if metric.buckets else text
