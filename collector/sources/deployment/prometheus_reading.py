"""Reads one page with its mapping, and computes rates and latencies from two pages. Pure.

Counters count since the start of their program, so rates and latencies are differences of two pages, series by series:

    a series that fell               its program was restarted: the whole value is an increase
    a new series                     began at 0 if its deployment was in the page before; else it is a baseline
    a series that is gone            is ignored
    a value that is not a count      is unknown, and so is the sum that it is part of

A histogram is compared as a whole: if one of its buckets fell, or its bounds changed, all of it is an increase. The
increases of its buckets are the latencies of that time, and are added to the buckets of deployment_latency.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from collector.frame.histogram import Observations
from collector.sources.deployment.prometheus_mapping import PageMapping, Role, Series
from collector.sources.deployment.provider import MAX_DEPLOYMENTS, Deployment, sum_of
from collector.sources.prometheus_text import Point, read_samples, to_number
from shm.metric import increase

# Most mapped samples of one page. Each takes some 300 bytes until the next page has been read.
_MAX_SAMPLES: Final = 30_000
# Counts have 64 bits at most.
_MAX_COUNT: Final = 2.0**64
# Most observations, and milliseconds in all, of one reading: 70 million requests at once would reach it in 15 s. More
# would stay in the histogram's count or sum forever, and hide later changes.
_MAX_OBSERVED: Final = 2.0**40
_INFINITY: Final = math.inf

Counters = dict[bytes, float | None]  # by _key() of the series; None: its value is not a count


@dataclass(slots=True)
class Histogram:
    """One series of a histogram, cumulative since its start; the bucket +Inf is the count. NaN is unknown."""

    buckets: dict[float, float] = field(default_factory=dict)
    total: float = math.nan


@dataclass(slots=True)
class PageCounters:
    """The counters of one deployment on one page."""

    errors: Counters | None  # None: the mapping has no errors
    requests: Counters = field(default_factory=dict)
    replicas: Counters = field(default_factory=dict)
    replica_series: Counters = field(default_factory=dict)
    latency: dict[bytes, Histogram] = field(default_factory=dict)


Reading = Mapping[str, PageCounters]


def read_page(page: bytes, mapping: PageMapping) -> Reading:
    """The counters on a page, by deployment_id. Raises BadText or ValueError if it is invalid or exceeds a limit."""
    roles: dict[str, list[tuple[Role, Series]]] = {}
    for role, selector in mapping.roles():
        roles.setdefault(selector.name, []).append((role, selector))
    reading: dict[str, PageCounters] = {}
    for count, sample in enumerate(read_samples(page.decode(), roles), 1):
        if count > _MAX_SAMPLES:
            raise ValueError(f"its answer has more than {_MAX_SAMPLES} samples of those that are mapped")
        deployment_id = mapping.id_of(sample.labels)
        if not deployment_id:
            continue
        for role, selector in roles[sample.name]:
            if not selector.takes(sample.labels):
                continue
            found = reading.get(deployment_id)
            if found is None:
                found = reading[deployment_id] = PageCounters({} if mapping.errors else None)
                if len(reading) > MAX_DEPLOYMENTS:
                    raise ValueError(f"its answer has more than {MAX_DEPLOYMENTS} deployments")
            if role == "latency":
                _add_to_histogram(found.latency, sample, mapping)
            else:
                counters: Counters = getattr(found, role)
                counters[b"%b\xff%b" % (sample.name.encode(), _key(sample.labels))] = _count(sample.value)
    return reading


def _key(labels: Mapping[str, str], without: str = "") -> bytes:
    """The labels as bytes that identify a series, in any order of labels. UTF-8 has neither 0xFE nor 0xFF."""
    items = sorted(item for item in labels.items() if item[0] != without)
    return b"\xff".join(b"%b\xfe%b" % (name.encode(), value.encode()) for name, value in items)


def _count(value: float) -> float | None:
    return value if 0 <= value <= _MAX_COUNT else None  # None for NaN, too


def _add_to_histogram(latency: dict[bytes, Histogram], sample: Point, mapping: PageMapping) -> None:
    histogram = latency.setdefault(_key(sample.labels, "le"), Histogram())
    count = math.nan if (known := _count(sample.value)) is None else known
    if sample.name.endswith("_bucket"):
        upper = to_number(sample.labels.get("le", ""))
        if upper is not None and not math.isnan(upper):
            histogram.buckets[_milliseconds(upper, mapping)] = count
    elif sample.name.endswith("_count"):
        histogram.buckets.setdefault(_INFINITY, count)
    else:
        histogram.total = sample.value * mapping.latency_ms


def _milliseconds(upper: float, mapping: PageMapping) -> float:
    # 1.001 s are 1001 ms, where the product of floats is 1000.9999999999999.
    return float(f"{upper * mapping.latency_ms:.12g}")


def deployments(now: Reading, before: Reading | None, seconds: float) -> list[Deployment]:
    """The changes in ``seconds``; without ``before``, only replicas."""
    return [_deployment(name, one, (before or {}).get(name), seconds) for name, one in now.items()]


def _deployment(name: str, now: PageCounters, before: PageCounters | None, seconds: float) -> Deployment:
    replicas = sum_of(now.replicas.values())
    if now.replica_series:
        replicas = (replicas or 0.0) + sum(1.0 for value in now.replica_series.values() if value)
    if before is None:
        return Deployment(name, replicas, keeps_latency=bool(now.latency))
    requests = _increase(now.requests, before.requests)
    errors = _increase(now.errors or {}, before.errors or {})
    if now.errors == {} and requests is not None:
        errors = 0.0  # programs export a series of errors only after the first error
    return Deployment(
        name,
        replicas,
        request_rate=None if requests is None else requests / seconds,
        error_rate=None if errors is None else errors / seconds,
        latency_ms=_observations(now.latency, before.latency),
        keeps_latency=bool(now.latency),
    )


def _increase(now: Counters, before: Counters) -> float | None:
    return sum_of(increase(before.get(key, 0.0), value) for key, value in now.items())


def _observations(now: Mapping[bytes, Histogram], before: Mapping[bytes, Histogram]) -> Observations | None:
    """The latencies of all histograms between two pages; None if there were none, or they are unknown."""
    counts: dict[float, float] = {}
    total = 0.0
    for key, histogram in now.items():
        one = _between(histogram, before.get(key))
        if one is None:
            return None
        for upper, count in one.counts:
            counts[upper] = counts.get(upper, 0.0) + count
        total += one.total
    observed = sum(counts.values())
    if not 0 < observed <= _MAX_OBSERVED or not 0 <= total <= _MAX_OBSERVED:
        return None
    return Observations(tuple(sorted(counts.items())), total)


def _between(now: Histogram, before: Histogram | None) -> Observations | None:
    """The increase of one series; None if a part of it is unknown."""
    unmeasured = Histogram(dict.fromkeys(now.buckets, 0.0), 0.0)
    if before is None or before.buckets.keys() != now.buckets.keys():
        before = unmeasured
    numbers = (*now.buckets.values(), now.total, *before.buckets.values(), before.total)
    if _INFINITY not in now.buckets or not math.isfinite(sum(numbers)):
        return None
    if any(count < before.buckets[upper] for upper, count in now.buckets.items()):
        before = unmeasured
    counts: list[tuple[float, float]] = []
    below, rise = 0.0, now.buckets[_INFINITY] - before.buckets[_INFINITY]
    for upper, count in sorted(now.buckets.items()):
        # Requests may be counted while the page is written bucket by bucket, so the counts may not rise for a moment.
        risen = min(max(count - before.buckets[upper], below), rise)
        if risen > below:
            counts.append((upper, risen - below))
            below = risen
    return Observations(tuple(counts), now.total - before.total)
