"""Plan a merge: which column of which table is merged into which column of an application's series, and how.

    counter, summary, histogram   the sum over all processes, dead ones included
    gauge   sum                   the sum over the living processes
            avg, min, max         over the living processes that have a value
            latest                the value set last by a living process
            each                  one series per living process, with the label pid
            min+dead, max+dead, latest+dead     as min, max, latest, but over dead processes too

A plan is made when a catalog changes. If definitions of a metric differ between processes, or metrics of different
processes claim the same sample name, as after an upgrade of an application that made the gauge x the counter x_total,
that of the process started last is used; series of the other definitions are left out and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from shm.catalog import MetricExtra
from shm.metric import MAX_LABELS, Metric, Series, SeriesKey, series_key
from shm.table.reader import TableReader

Indexes = NDArray[np.intp]

WAYS: Final = ("add", "min", "max", "latest")  # how a column is merged


class TablePlan(NamedTuple):
    """One table's part of a plan: its column ``source[i]`` is merged into the column ``target[i]``.

    ``parts``: for each of WAYS, the slice of both that is merged this way; no target is in a slice twice. ``dead``:
    whether the column counts if its process is dead. ``columns``: first column, number of columns, whether a gauge.
    """

    source: Indexes
    target: Indexes
    dead: NDArray[np.bool_]
    parts: dict[str, slice]
    columns: dict[SeriesKey, tuple[int, int, bool]]


@dataclass(slots=True)
class MergePlan:
    """How to merge the tables. ``series``: the merged series; they take the ``width`` columns one after another.

    ``conflicts``: by metric, how many series were left out because its definitions differ. ``extremes``: the columns of
    gauges of the modes "min" and "max", ``averaged`` those of "avg"; ``buckets``: the columns of histogram buckets,
    +Inf's included, shape (series, buckets), one array per number of buckets.
    """

    series: list[Series] = field(default_factory=list)
    width: int = 0
    conflicts: dict[str, int] = field(default_factory=dict)
    tables: list[TablePlan] = field(default_factory=list)
    averaged: list[int] = field(default_factory=list)
    extremes: dict[str, list[int]] = field(default_factory=lambda: {"min": [], "max": []})
    buckets: list[Indexes] = field(default_factory=list)


def plan_of(tables: Sequence[TableReader]) -> MergePlan:
    """The plan to merge these tables, in this order."""
    plan = MergePlan()
    definitions = _definitions(tables)
    targets: dict[SeriesKey, int] = {}
    with_pid: dict[str, Metric] = {}
    buckets: dict[int, list[range]] = {}
    for table in tables:
        rows: list[tuple[int, int, int, bool]] = []  # way, source, target, dead
        columns: dict[SeriesKey, tuple[int, int, bool]] = {}
        for series in table.catalog.series:
            metric, extra, key = series.metric, table.catalog.extra.get(series.metric.name), series_key(series)
            gauge = metric.type == "gauge"
            columns[key] = series.column, table.columns_of(metric), gauge
            merged, definition = definitions.get(metric.name, (None, metric))
            if extra is None or merged is None or (metric.shape, extra.mode) != (definition.shape, merged.mode):
                plan.conflicts[metric.name] = plan.conflicts.get(metric.name, 0) + 1
                continue
            mode = merged.mode.removesuffix("+dead") if gauge else "sum"
            if mode == "each":
                definition = with_pid.setdefault(metric.name, replace(metric, label_names=(*metric.label_names, "pid")))
                key = key[0], (*key[1], str(table.header.pid))
            target = targets.get(key)
            if target is None:
                target = targets[key] = plan.width
                plan.series.append(Series(definition, key[1], target))
                plan.width += definition.columns
                if metric.type == "histogram":
                    bounds = len(metric.buckets) + 1
                    buckets.setdefault(bounds, []).append(range(target + 1, target + 1 + bounds))
                elif mode == "avg":
                    plan.averaged.append(target)
                elif mode in plan.extremes:
                    plan.extremes[mode].append(target)
            # A mode that is unknown to this release is merged by the first way; its table has no column for the time.
            known = mode in WAYS and (mode != "latest" or table.columns_of(metric) > metric.columns)
            way = WAYS.index(mode) if known else 0
            dead = not gauge or merged.mode.endswith("+dead")
            # A histogram's first column is for raw samples: a table has none.
            skipped = metric.type == "histogram"
            rows += [(way, series.column + i, target + i, dead) for i in range(skipped, metric.columns)]
        plan.tables.append(_table_plan(rows, columns))
    plan.buckets = [np.array(some, np.intp) for some in buckets.values()]
    return plan


def with_label(series: Sequence[Series], name: str, value: str) -> list[Series]:
    """The series, each with the label ``name``; a label of theirs of that name becomes ``exported_`` and the name.

    A metric that has as many labels as are allowed stays as it is.
    """
    metrics: dict[Metric, Metric] = {}
    found = []
    for one in series:
        metric = one.metric
        if len(metric.label_names) == MAX_LABELS:
            found.append(one)
            continue
        if metric not in metrics:
            own = name
            while own in metric.label_names:
                own = f"exported_{own}"
            rest = (own if label == name else label for label in metric.label_names)
            metrics[metric] = replace(metric, label_names=(name, *rest))
        found.append(Series(metrics[metric], (value, *one.label_values), one.column))
    return found


def _table_plan(rows: list[tuple[int, int, int, bool]], columns: dict[SeriesKey, tuple[int, int, bool]]) -> TablePlan:
    rows.sort()
    ways, source, target, dead = np.array(rows, np.intp).reshape(-1, 4).T
    ends = np.searchsorted(ways, range(len(WAYS) + 1)).tolist()
    parts = {way: slice(ends[i], ends[i + 1]) for i, way in enumerate(WAYS) if ends[i] < ends[i + 1]}
    return TablePlan(source.copy(), target.copy(), dead.astype(bool), parts, columns)


def _definitions(tables: Sequence[TableReader]) -> dict[str, tuple[MetricExtra, Metric]]:
    """The newest definition of each metric: that of the process started last. A metric is not among them if a newer one
    of another name has one of its sample names."""
    found: dict[str, tuple[MetricExtra, Metric]] = {}
    for table in tables:
        for metric in table.catalog.metrics:
            extra = table.catalog.extra.get(metric.name, MetricExtra("sum", -1))
            if metric.name not in found or extra.since_ns > found[metric.name][0].since_ns:
                found[metric.name] = extra, metric
    newest: dict[str, int] = {}  # by sample name
    for extra, metric in found.values():
        for name in metric.sample_names:
            newest[name] = max(newest.get(name, -1), extra.since_ns)
    return {
        name: (extra, metric)
        for name, (extra, metric) in found.items()
        if all(newest[one] <= extra.since_ns for one in metric.sample_names)
    }
