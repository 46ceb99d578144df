"""/stats and /health: contents and state of the rings, as plain dictionaries for JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
import orjson

from exporter.applications import ApplicationSet, Shown, shown_series
from exporter.exposition.conflicts import EXPORTER, Conflict, gather
from exporter.exposition.latest import CURRENT, present_levels
from exporter.rings import Ring, RingSet
from exporter.status.largest import largest
from exporter.window import coverage
from fogmetrics.settings.metric_names import metric_table, table_fits
from shm.metric import Metric, Series
from shm.ring.discovery import foreign_files
from shm.ring.frame import absent
from shm.ring.layout import is_absent
from shm.ring.windows import GUARD_SLOTS


def stats(
    rings: RingSet,
    own: Sequence[Series] = (),
    applications: ApplicationSet | None = None,
    tables: Collection[str] = (),
    holders: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """The content of /stats. Reads every frame of every ring, to count the samples held.

    ``own``: the exporter's own series, which have precedence on /metrics. ``tables``: the NAME of each [metric.NAME].
    ``holders``: the source of each name on /metrics.
    """
    held: Counter[str] = Counter()
    metrics: set[Metric] = set()
    by_ring: dict[str, Any] = {}
    found = rings.refresh()
    for ring in found:
        try:
            entry = _of_ring(rings, ring, held)
            orjson.dumps(entry)  # an entry that JSON can't encode, as with a lone surrogate, must not fail the page
            by_ring[ring.source] = entry
        except Exception as error:  # noqa: BLE001 - a ring's bytes are untrusted input
            rings.fail(ring.source, error)
            continue
        metrics.update(ring.reader.catalog.metrics)
    users = {metric.name for metric in metrics if not metric.own}
    daemon = {metric.name for metric in metrics if metric.own}
    live = [] if applications is None else applications.refresh()
    users.update(series.metric.name for one in live for series in one.series)
    by_application = {
        one.source: {
            "processes": one.reader.processes,
            "tables": one.reader.tables,
            "bytes": one.reader.bytes,
            "series": len(one.series),
            "conflicts": dict(one.reader.plan.conflicts),
        }
        for one in live
    }
    both: list[Shown] = [*found, *live]
    shown = [(one.source, shown_series(one)) for one in both]
    present = present_levels(both, rings.stale(both))
    levels = [np.full(max((one.end for one in own), default=0), CURRENT, dtype=np.int8), *present]
    conflicts = gather([(EXPORTER, own), *shown], reserved=coverage.NAMES, levels=levels, holders=holders).conflicts
    return {
        "buffer_stats": {name: held[name] for name in sorted(users)},
        "registered_metrics": sorted(users),
        "total_metrics": len(users),
        "daemon_metrics": {name: held[name] for name in sorted(daemon)},
        "total_samples": sum(held.values()),
        "total_bytes": sum(one["bytes"] for one in (*by_ring.values(), *by_application.values())),
        **largest(series for source, some in shown if source not in rings.errors for series in some),
        "rings": by_ring,
        "applications": by_application,
        "errors": {**(applications.errors() if applications else {}), **rings.errors},
        **_foreign(rings, applications),
        "conflicts": [one._asdict() for one in conflicts],
        # Mistyped names, or metrics of a disabled source. No collector can find them: each knows only its own metrics.
        "unused_tables": [
            metric_table(one) for one in tables if not any(table_fits(one, metric) for metric in metrics)
        ],
    }


def _of_ring(rings: RingSet, ring: Ring, held: Counter[str]) -> dict[str, Any]:
    frames = ring.reader.frames(None, None)
    present = (~absent(frames.values)).sum(axis=0).tolist()
    for series in ring.series:
        # Of a histogram, count the raw samples, not the buckets.
        held[series.metric.name] += present[series.column]
    header = ring.reader.header
    # The window may hold frames that were appended after refresh() read the ring.
    sequence = max(ring.sequence, *frames.sequence[-1:].tolist(), 0)
    held_frames = len(frames.sequence)
    full = held_frames >= header.capacity - GUARD_SLOTS  # readers leave out the guard slots
    return {
        "sequence": sequence,
        "frames": held_frames,
        "capacity": header.capacity,
        "fill": 1.0 if full else round(held_frames / header.capacity, 6),
        "interval_seconds": header.interval_ns / 1e9,
        "series": len(ring.series),
        "columns": ring.reader.catalog.columns,
        "width": header.width,
        "bytes": header.segment_bytes,
        "age_seconds": round(ring.age_seconds(rings.monotonic(), rings.wall()), 3) if ring.sequence else None,
        "stale": rings.is_stale(ring),
        "writer_alive": ring.writer_alive(),
        "writer_pid": ring.reader.writer.pid or None,
        "skipped_frames": rings.counts().skipped_frames[ring.source],
        "dropped_samples": _last(ring, "collector_series_dropped_total"),
        "limited_metrics": dict(ring.reader.catalog.limits),
        "generation": header.generation,
    }


def health(
    rings: RingSet,
    applications: ApplicationSet | None = None,
    on: Collection[str] | None = None,
    programs: Collection[str] = (),
    conflicts: Collection[Conflict] = (),
) -> tuple[bool, dict[str, Any]]:
    """(False if nothing is fresh, so that the daemon is failing; the content of /health).

    ``on``: sources that should have a ring; None: all that have one. ``programs``: sentences about failing programs.
    """
    sources: dict[str, Any] = {}
    fresh = False
    for ring in rings.refresh():
        stale = rings.is_stale(ring)
        fresh = fresh or not stale
        up = _last(ring, "collector_up")
        success = _last(ring, "collector_last_success_timestamp_seconds")
        sources[ring.source] = {
            "status": "empty" if ring.sequence == 0 else "stale" if stale else "fresh",
            "age_seconds": round(ring.age_seconds(rings.monotonic(), rings.wall()), 3) if ring.sequence else None,
            "up": None if up is None or stale else bool(up),
            "last_success": None if success is None else utc(success),
            "writer_alive": ring.writer_alive(),
        }
    for source, error in rings.errors.items():
        # A ring that is readable in part keeps its status and gets the error as well.
        sources.setdefault(source, {"status": "unreadable"})["error"] = error
    for source in on or ():
        sources.setdefault(source, {"status": "missing"})
    problems = [
        *(
            f"source {name}: {wrong}"
            for name, one in sources.items()
            if on is None or name in on
            if (wrong := _wrong(one))
        ),
        *programs,
        *(f"source {one.source}: {one.series} series of {one.metric} are hidden: {one.reason}" for one in conflicts),
    ]
    page: dict[str, Any] = {"problems": problems, "sources": sources}
    if applications is not None and (found := applications.refresh()):
        page["applications"] = {one.source: {"processes": one.reader.processes} for one in found}
        for name, error in applications.errors().items():
            page["applications"][name]["error"] = error
        fresh = fresh or any(one.reader.processes for one in found)
    status = "failing" if not fresh else "degraded" if problems else "ok"
    return fresh, {"status": status, **page, **_foreign(rings, applications)}


def _wrong(source: Mapping[str, Any]) -> str:
    """What is wrong with a source of the page /health; empty: nothing."""
    status = source["status"]
    if error := source.get("error"):
        return str(error)
    if status == "stale":
        return f"no frame for {source['age_seconds']:g} s; is its program running?"
    if status in ("empty", "missing"):
        return "no frame yet; is its program running?" if status == "empty" else "no ring; is its program running?"
    if source["up"] is False:
        since = f"since {source['last_success']}" if source["last_success"] else "from the start"
        return f"down {since}; its log says why"
    return ""


def utc(seconds: float) -> str:
    """The time in RFC 3339, such as 2026-11-30T12:00:00Z."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _foreign(rings: RingSet, applications: ApplicationSet | None) -> dict[str, str]:
    left_out = foreign_files(rings.files, *([] if applications is None else [applications.files]))
    return {"foreign_files": left_out} if left_out else {}


def _last(ring: Ring, metric: str) -> float | None:
    """The newest value of the first series of a metric, or None if that is absent."""
    found: Series | None = next((one for one in ring.series if one.metric.name == metric), None)
    if found is None or found.column >= len(ring.latest) or is_absent(ring.latest[found.column]):
        return None
    return float(ring.latest[found.column])
