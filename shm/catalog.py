"""Encode and decode the catalog: the sealed entries that describe the metrics and series of a segment.

An entry's body is JSON, so that a later release may add keys and an earlier one still reads the keys it knows:

    metric  {"n":"node_cpu_usage","t":"gauge","h":"CPU …","u":"percent","l":["node_id"],"b":[],"o":0}
    series  {"m":0,"v":["fog-1"],"c":7}        metric's index, label values, first column
    limit   {"n":"app_requests","max":200}     samples of this metric were dropped at this limit

In a table a metric has two more keys (:class:`MetricExtra`): "m", the mode that merges a gauge's values from several
processes, and "s", the time of the definition in Unix ns. The table of the dead has two more kinds of entries, see
shm.table.dead.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from shm.errors import MetricError
from shm.metric import MAX_NAME, Metric, Series, SeriesKey, check_text
from shm.ring.layout import (
    ENTRY_HEADER,
    KIND_FOLDED,
    KIND_LIMIT,
    KIND_METRIC,
    KIND_REMOVED,
    KIND_SERIES,
    MAX_ENTRY_BODY,
    aligned,
)
from shm.ring.protocol import entry_seal
from shm.safe_repr import said

PIECE_BYTES: Final = 1 << 18  # fits into the cache, and has room for several of the largest entries


class MetricExtra(NamedTuple):
    """A metric's mode and the time of its definition, in tables only; see shm.table.plan for the modes."""

    mode: str
    since_ns: int


def columns_of(metric: Metric, extra: MetricExtra | None) -> int:
    """How many columns a series of the metric has.

    In a table, the modes that begin with "latest" have one more: when the value was set, in Unix seconds.
    """
    return metric.columns + (extra is not None and extra.mode.startswith("latest"))


@dataclass(slots=True)
class Catalog:
    """The proven entries of a catalog.

    ``used`` is the offset, within the catalog, of the first byte not proven yet. ``error`` is the reason why reading
    stopped before the offset that the writer had announced, else empty. Entries read before stay valid: columns never
    move within a segment. ``folded``, ``removed``: only in the table of the dead, see shm.table.dead.
    """

    metrics: list[Metric] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)  # of each metric, by name
    series: list[Series] = field(default_factory=list)
    limits: dict[str, int] = field(default_factory=dict)
    extra: dict[str, MetricExtra] = field(default_factory=dict)  # by metric name
    folded: list[str] = field(default_factory=list)  # identities of tables
    removed: dict[tuple[str, SeriesKey], bytes] = field(default_factory=dict)  # by identity of the table, and series
    used: int = 0
    columns: int = 0
    error: str = ""


def metric_body(metric: Metric, extra: MetricExtra | None = None) -> bytes:
    fields: dict[str, object] = {
        "n": metric.name,
        "t": metric.type,
        "h": metric.help,
        "u": metric.unit,
        "l": metric.label_names,
        "b": metric.buckets,
        "o": int(metric.own),
    }
    if extra is not None:
        fields |= {"m": extra.mode, "s": extra.since_ns}
    return _body(fields)


def series_body(metric_index: int, label_values: tuple[str, ...], column: int) -> bytes:
    return _body({"m": metric_index, "v": label_values, "c": column})


def limit_body(metric: str, limit: int) -> bytes:
    return _body({"n": metric, "max": limit})


def removed_body(who: str, key: SeriesKey, values: bytes) -> bytes:
    return _body({"i": who, "n": key[0], "v": key[1], "b": values.hex()})


def folded_body(identities: Sequence[str]) -> bytes:
    return _body({"i": identities})


def _body(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":")).encode()


def entry(kind: int, body: bytes, offset: int, salt: int) -> bytes:
    """The whole entry, sealed for the offset ``offset`` in the catalog and padded to 8 bytes."""
    if len(body) > MAX_ENTRY_BODY:
        raise MetricError(f"a catalog entry of {len(body)} bytes is over the limit of {MAX_ENTRY_BODY}: {body[:60]!r}…")
    head = ENTRY_HEADER.pack(len(body), kind, 0)[:8]
    sealed = head + entry_seal(head + body, offset, salt).to_bytes(8, "little") + body
    return sealed.ljust(aligned(len(sealed), 8), b"\0")


def packed(bodies: Iterable[tuple[int, bytes]], salt: int, at: int = 0) -> bytes:
    """The entries of these (kind, body), one after another from the offset ``at`` of the catalog."""
    written: list[bytes] = []
    for kind, body in bodies:
        written.append(entry(kind, body, at, salt))
        at += len(written[-1])
    return b"".join(written)


def entry_bytes(body: bytes) -> int:
    """How many bytes of the catalog an entry with that body takes."""
    return aligned(ENTRY_HEADER.size + len(body), 8)


def extend(catalog: Catalog, data: bytes, announced: int, width: int, salt: int) -> None:
    """Add the entries of ``data``, which begins at ``catalog.used``, as far as their seals hold.

    ``announced`` is header.catalog_used, a hint. Below it, an entry with a bad seal is an error (or not yet visible:
    a later call may succeed); at or above it, the entry is one that the writer is still adding. Never raises.
    """
    catalog.error = ""
    start = catalog.used
    while True:
        at = catalog.used - start
        if at + ENTRY_HEADER.size > len(data):
            break
        size, kind, seal = ENTRY_HEADER.unpack_from(data, at)
        body = data[at + ENTRY_HEADER.size : at + ENTRY_HEADER.size + size]
        # Check the size before using it: a corrupt size must cost no more than this comparison.
        whole = size <= MAX_ENTRY_BODY and len(body) == size
        if not whole or entry_seal(data[at : at + 8] + body, catalog.used, salt) != seal:
            if catalog.used < announced:
                catalog.error = f"catalog entry at byte {catalog.used} of {announced} does not hold its seal"
            break
        problem = _add(catalog, kind, body, width)
        if problem:
            catalog.error = f"catalog entry at byte {catalog.used}: {problem}"
            break
        catalog.used += entry_bytes(body)


def extend_in_pieces(
    catalog: Catalog, read_at: Callable[[int, int], bytes], size: int, announced: int, width: int, salt: int
) -> None:
    """Add the new entries of a catalog of ``size`` bytes, in pieces of at most PIECE_BYTES.

    ``read_at``: the bytes from an offset in the catalog on, at most so many; fewer where the file was cut. So a catalog
    that claims to be large takes no memory beyond its proven entries.
    """
    while True:
        start = catalog.used
        data = read_at(start, min(PIECE_BYTES, max(size - start, 0)))
        extend(catalog, data, announced, width, salt)
        # An entry that the piece cut is read whole by the next one, since a piece has room for any entry.
        if catalog.used == start or len(data) < PIECE_BYTES:
            break


def _add(catalog: Catalog, kind: int, body: bytes, width: int) -> str:
    """Add one proven entry; an error message if it breaks a rule or contradicts an earlier entry."""
    if kind not in (KIND_METRIC, KIND_SERIES, KIND_LIMIT, KIND_FOLDED, KIND_REMOVED):
        return ""  # of a later release: proven, skipped
    try:
        fields = json.loads(body)
        if kind == KIND_METRIC:
            metric = Metric(
                fields["n"],
                fields["t"],
                fields["h"],
                fields["u"],
                tuple(fields["l"]),
                tuple(float(bound) for bound in fields["b"]),
                bool(fields["o"]),
            )
            if metric.name in catalog.index:
                return f"metric {metric.name!r} has an entry already"
            catalog.index[metric.name] = len(catalog.metrics)
            catalog.metrics.append(metric)
            if "m" in fields:
                catalog.extra[metric.name] = MetricExtra(str(fields["m"]), int(fields["s"]))
        elif kind == KIND_SERIES:
            index, column, values = fields["m"], fields["c"], tuple(fields["v"])
            if type(index) is not int or type(column) is not int or index < 0:
                return f"metric {index!r} and column {column!r} are not both whole numbers"
            metric = catalog.metrics[index]
            metric.check_values(values)
            series = Series(metric, values, column)
            end = column + columns_of(metric, catalog.extra.get(metric.name))
            if series.column != catalog.columns or end > width:
                return (
                    f"series of {metric.name!r} takes columns {series.column}…{end - 1} of {width}, "
                    f"next is {catalog.columns}"
                )
            catalog.series.append(series)
            catalog.columns = end
        elif kind == KIND_FOLDED:
            catalog.folded.extend(map(str, fields["i"]))
        elif kind == KIND_REMOVED:
            key = str(fields["n"]), tuple(map(str, fields["v"]))
            catalog.removed[str(fields["i"]), key] = bytes.fromhex(fields["b"])
        else:
            name, most = fields["n"], fields["max"]
            if type(most) is not int or not 0 <= most < 1 << 63:
                return f"limit {most!r} is not a whole number within 0…2^63−1"
            check_text("metric name", name, MAX_NAME)
            catalog.limits[name] = most
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, OverflowError) as error:
        return said(error)
    return ""
