"""Merges the families of several files, and refuses families that conflict with earlier ones.

Two files may have samples of one metric if its type, label names and buckets agree and the series differ; the help of
the first file is kept. If they conflict, the family of the later file is refused, as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from collector.source import Sample
from collector.sources.prometheus_text import BadText
from collector.sources.textfile.translation import ParsedMetric
from shm.metric import Metric


class Merged:
    """The metrics and samples of the families merged so far. ``own``: metrics that no file may have.

    ``most``: the largest number of samples.
    """

    def __init__(self, own: Iterable[Metric], max_samples: int) -> None:
        self.metrics: dict[str, Metric] = {}
        self.samples: list[Sample] = []
        self.most = max_samples
        self._names = {name: _Owner(metric, "") for metric in own for name in metric.sample_names}
        self._files: dict[tuple[str, ...], str] = {}  # the file of each series

    @property
    def room(self) -> int:
        """Number of samples that can still be added."""
        return self.most - len(self.samples)

    def take(self, file: str, parsed: Sequence[ParsedMetric]) -> None:
        """Add the metrics of a family of the file. Raises BadText, and adds nothing, for a conflict."""
        if sum(len(one.samples) for one in parsed) > self.room:
            raise BadText(parsed[0].line, f"with its samples there would be more than {self.most}; remove some")
        names: dict[str, _Owner] = {}
        for one in parsed:
            for name in one.metric.sample_names:
                self._check(names.get(name) or self._names.get(name), name, one)
                names.setdefault(name, _Owner(one.metric, file))
            for sample in one.samples:
                if taken := self._files.get(_series(sample)):
                    raise BadText(
                        one.line,
                        f"a series of {one.metric.name} is in {taken} too; remove one, or add a label that differs",
                    )
        self._names = names | self._names
        for one in parsed:
            self.metrics.setdefault(one.metric.name, one.metric)
            self.samples += one.samples
            self._files.update(dict.fromkeys(map(_series, one.samples), file))

    def _check(self, owner: _Owner | None, name: str, one: ParsedMetric) -> None:
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


class _Owner(NamedTuple):
    """The metric and file that a sample name belongs to; the file is empty for the daemon itself."""

    metric: Metric
    file: str


def _series(sample: Sample) -> tuple[str, ...]:
    """The name of the metric, and the label values in an order that all files share."""
    return sample.metric, *(sample.labels[label] for label in sorted(sample.labels))


def _shape(metric: Metric) -> tuple[str, frozenset[str], tuple[float, ...]]:
    """As Metric.shape, but without the order of label names, as samples give labels by name."""
    return metric.type, frozenset(metric.label_names), metric.buckets


def _described(metric: Metric) -> str:
    text = f"{metric.type} with the labels ({', '.join(sorted(metric.label_names))})"
    return f"{text} and the buckets {', '.join(f'{bound:g}' for bound in metric.buckets)}" if metric.buckets else text
