"""``python -m collector NAME --once``: what one collection gives, for whoever sets up or writes a source."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Final

from collector.frame.rules import Rules
from collector.frame.samples import check_sample
from collector.loop.source_thread import SourceThread
from collector.metrics import OWN
from collector.source import MetricSource
from shm.metric import Metric, escape_label
from shm.safe_repr import said, shown

_BETWEEN_SECONDS: Final = 0.5  # the two readings that a rate takes
_BEYOND: Final = {
    "drop": "error: {}: the daemon drops the samples of more; drop a label with many values, or raise the limit",
    "oldest": "note: {}: the daemon lets more in, in the place of the series whose last sample is oldest",
}


def once(source: MetricSource, timeout: float, max_series: int, max_series_per_metric: int, rules: Rules) -> int:
    """Print the samples of one collection, and what the daemon would say of it; the exit status.

    1 where the source is down, or the daemon would refuse or drop a sample.
    """
    thread = SourceThread(source)
    try:
        thread.open(timeout)
    except Exception as error:  # noqa: BLE001 - as in the daemon, whatever the source raises
        print(f"error: {said(error)}", file=sys.stderr)
        return 1
    time.sleep(_BETWEEN_SECONDS)
    result = thread.finish(thread.start(timeout))
    with contextlib.suppress(Exception):  # as in the daemon: what was collected counts
        thread.close(timeout)
    told = [f"error: {error}" for error in result.errors]
    known = {metric.name: metric for metric in (*source.metrics, *result.metrics, *OWN)}
    series: dict[str, set[tuple[str, ...]]] = {}
    for sample in result.samples:
        try:
            check_sample(known, sample)
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon would refuse it too
            told.append(f"error: {shown(sample)}: {said(error)}")
            continue
        series.setdefault(sample.metric, set()).add(known[sample.metric].label_values(sample.labels))
        labels = ",".join(f'{name}="{escape_label(value)}"' for name, value in sample.labels.items())
        value = sample.value if sample.counted is None else list(sample.counted)
        print(f"{sample.metric}{{{labels}}} {value}" if labels else f"{sample.metric} {value}")
    for name, values in series.items():
        told += _beyond(known[name], values, max_series_per_metric, rules)
    if (count := sum(map(len, series.values()))) > max_series:
        told.append(_BEYOND["drop"].format(f"the source has {count} series, more than max_series, {max_series}"))
    for text in told:
        print(text, file=sys.stderr)
    errors = sum(text.startswith("error: ") for text in told)
    return 0 if result.up and errors == len(result.errors) else 1


def _beyond(metric: Metric, series: set[tuple[str, ...]], max_series_per_metric: int, rules: Rules) -> list[str]:
    """What the daemon does with more series of a metric than it takes. ``series``: their values of the labels."""
    if metric.own:
        return []
    rule, name = rules.rule(metric), metric.name
    exceeded = []
    for label, values in zip(metric.label_names, zip(*series, strict=True), strict=True):
        if 0 < rule.max_label_values < (count := len(set(values))):
            limit = f"max_label_values, {rule.max_label_values}"
            exceeded.append(f"label {label!r} of metric {name!r} has {count} values, more than {limit}")
    limit = f"max_series, {rule.max_series}" if rule.max_series else f"max_series_per_metric, {max_series_per_metric}"
    if len(series) > (rule.max_series or max_series_per_metric):
        exceeded.append(f"metric {name!r} has {len(series)} series, more than {limit}")
    return [_BEYOND[rule.beyond].format(text) for text in exceeded]
