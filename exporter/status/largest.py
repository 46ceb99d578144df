"""Find the metrics with the most series and the labels with the most values: the causes of cardinality."""

from __future__ import annotations

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import Any, Final

from shm.metric import Series

MOST: Final = 10


def largest(series: Iterable[Series]) -> dict[str, Any]:
    """``largest_metrics`` and ``largest_labels`` of /stats, without the daemon's own metrics.

    A series counts once in each ring that has it; a label's values are distinct over all rings. Ties are ordered by
    name.
    """
    of_metric: Counter[str] = Counter()
    values: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for one in series:
        if not one.metric.own:
            of_metric[one.metric.name] += 1
            for label, value in zip(one.metric.label_names, one.label_values, strict=True):
                values[one.metric.name, label].add(value)
    metrics = heapq.nsmallest(MOST, ((-count, name) for name, count in of_metric.items()))
    labels = heapq.nsmallest(MOST, ((-len(found), *key) for key, found in values.items()))
    return {
        "largest_metrics": [{"metric": name, "series": -count} for count, name in metrics],
        "largest_labels": [{"metric": name, "label": label, "values": -count} for count, name, label in labels],
    }
