"""``python -m collector NAME --once``: collect once and print the samples, for setting up or writing a source."""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Final

from collector.frame.rules import Rules
from collector.frame.samples import Given, checked, series_name
from collector.loop.source_thread import SourceThread
from collector.metrics import OWN
from collector.raised_at import raised_at
from collector.source import MetricSource
from shm.errors import MetricError
from shm.metric import Metric
from shm.safe_repr import said, shown

_BETWEEN_SECONDS: Final = 0.5  # between open() and collect(), the two readings of a rate
_BEYOND: Final = {
    "drop": "error: {}: the daemon drops samples of further series; drop a label with many values, or raise the limit",
    "oldest": "note: {}: in the daemon further series replace those whose last sample is oldest",
}


def once(source: MetricSource, timeout: float, max_series: int, max_series_per_metric: int, rules: Rules) -> int:
    """Print the samples of one collection, and the errors that the daemon would log; the exit status.

    The status is 1 if the source is down, or if the daemon would refuse or drop a sample.
    """
    thread = SourceThread(source)
    try:
        thread.open(timeout)
    except Exception as error:  # noqa: BLE001 - any exception of the source, as in the daemon
        print(f"error: {said(error)}{raised_at(error)}", file=sys.stderr)
        return 1
    time.sleep(_BETWEEN_SECONDS)
    result = thread.finish(thread.start(timeout))
    with contextlib.suppress(Exception):  # as in the daemon
        thread.close(timeout)
    messages = [f"error: {error}{result.place}" for error in result.errors]
    known = {metric.name: metric for metric in (*source.metrics, *result.metrics, *OWN)}
    given = Given()
    series: dict[str, set[tuple[str, ...]]] = {}
    for sample in result.samples:
        try:
            if sample.metric not in known:
                raise MetricError(f"metric {sample.metric!r} is not among the source's metrics")
            checked(known[sample.metric], sample, given)
        except Exception as error:  # noqa: BLE001 - the daemon would refuse the sample too
            messages.append(f"error: {shown(sample)}: {said(error)}")
            continue
        series.setdefault(sample.metric, set()).add(known[sample.metric].label_values(sample.labels))
        value = sample.value if sample.counted is None else list(sample.counted)
        print(series_name(sample.metric, sample.labels, sample.labels.values()), value)
    for name, values in series.items():
        messages += _beyond(known[name], values, max_series_per_metric, rules)
    if (count := sum(map(len, series.values()))) > max_series:
        messages.append(_BEYOND["drop"].format(f"the source has {count} series, more than max_series, {max_series}"))
    for text in messages:
        print(text, file=sys.stderr)
    errors = sum(text.startswith("error: ") for text in messages)
    return 0 if result.up and errors == len(result.errors) else 1


def _beyond(metric: Metric, series: set[tuple[str, ...]], max_series_per_metric: int, rules: Rules) -> list[str]:
    """A message for each limit that the metric's series exceed. ``series``: the label values of each."""
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
