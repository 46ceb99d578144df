"""The catalog's entries: read as far as they are proven, and never a step further."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import catalog as entries
from shm.catalog import Catalog
from shm.errors import MetricError
from shm.metric import Metric
from shm.ring.layout import KIND_LIMIT, KIND_METRIC, KIND_SERIES, MAX_ENTRY_BODY

SALT = 99
CPU = Metric("cpu", "gauge", "Busy CPUs, ü.", "percent", ("node",), own=True)
LATENCY = Metric("latency", "histogram", "Time.", "milliseconds", (), (1.0, 2.5))


def catalog_bytes(*bodies: tuple[int, bytes]) -> bytes:
    data = b""
    for kind, body in bodies:
        data += entries.entry(kind, body, len(data), SALT)
    return data


def read(data: bytes, announced: int | None = None, width: int = 16) -> Catalog:
    catalog = Catalog()
    entries.extend(catalog, data, len(data) if announced is None else announced, width, SALT)
    return catalog


WHOLE = catalog_bytes(
    (KIND_METRIC, entries.metric_body(CPU)),
    (KIND_METRIC, entries.metric_body(LATENCY)),
    (KIND_SERIES, entries.series_body(0, ("fog-1",), 0)),
    (KIND_SERIES, entries.series_body(1, (), 1)),
    (KIND_SERIES, entries.series_body(0, ('"\\\n ü',), 6)),
    (KIND_LIMIT, entries.limit_body("cpu", 200)),
)


def test_a_catalog_reads_back_as_it_was_written() -> None:
    catalog = read(WHOLE + bytes(64), len(WHOLE))
    assert catalog.error == ""
    assert catalog.metrics == [CPU, LATENCY]
    assert [(s.metric.name, s.label_values, s.column) for s in catalog.series] == [
        ("cpu", ("fog-1",), 0),
        ("latency", (), 1),
        ("cpu", ('"\\\n ü',), 6),
    ]
    assert catalog.limits == {"cpu": 200}
    assert (catalog.used, catalog.columns) == (len(WHOLE), 7)


def test_the_body_of_an_entry_is_the_json_that_the_drawing_shows() -> None:
    assert entries.metric_body(CPU).decode() == (
        '{"n":"cpu","t":"gauge","h":"Busy CPUs, ü.","u":"percent","l":["node"],"b":[],"o":1}'
    )
    assert entries.series_body(0, ("fog-1",), 7) == b'{"m":0,"v":["fog-1"],"c":7}'
    assert entries.limit_body("app_requests", 200) == b'{"n":"app_requests","max":200}'


def test_reading_on_finds_what_was_added_since() -> None:
    catalog = Catalog()
    for end in range(0, len(WHOLE) + 1, 8):
        data = WHOLE[:end] + bytes(len(WHOLE) - end)
        entries.extend(catalog, data[catalog.used :], 0, 16, SALT)
        assert catalog.error == ""
    assert catalog == read(WHOLE)


def test_an_entry_that_does_not_hold_before_the_announcement_is_an_error_and_what_came_before_stays_true() -> None:
    at = len(catalog_bytes((KIND_METRIC, entries.metric_body(CPU)), (KIND_METRIC, entries.metric_body(LATENCY))))
    damaged = bytearray(WHOLE)
    damaged[at + 20] ^= 1
    catalog = read(bytes(damaged))
    assert f"catalog entry at byte {at} of {len(WHOLE)} does not hold its seal" in catalog.error
    assert catalog.metrics == [CPU, LATENCY]
    assert catalog.series == []
    entries.extend(catalog, WHOLE[catalog.used :], len(WHOLE), 16, SALT)
    assert catalog == read(WHOLE), "once it holds, reading goes on"


def test_an_entry_in_another_place_or_of_another_segment_does_not_hold() -> None:
    one = entries.entry(KIND_METRIC, entries.metric_body(CPU), 0, SALT)
    assert read(one).metrics == [CPU]
    assert read(entries.entry(KIND_METRIC, entries.metric_body(CPU), 8, SALT)).metrics == []
    assert read(entries.entry(KIND_METRIC, entries.metric_body(CPU), 0, SALT + 1)).metrics == []


def test_a_wild_size_costs_no_more_than_a_comparison() -> None:
    for size in (MAX_ENTRY_BODY + 1, 0xFFFF_FFFF):
        data = size.to_bytes(4, "little") + WHOLE[4:]
        assert read(data).used == 0


def test_an_entry_of_a_later_release_is_skipped_and_unknown_keys_are_too() -> None:
    body = json.loads(entries.metric_body(CPU)) | {"later": [1, {"x": None}]}
    for unknown in (b'{"a":1}', b"not even JSON", b""):
        catalog = read(catalog_bytes((77, unknown), (KIND_METRIC, json.dumps(body).encode())))
        assert (catalog.error, catalog.metrics) == ("", [CPU])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (KIND_SERIES, {"m": 5, "v": ["x"], "c": 0}),
        (KIND_SERIES, {"m": -1, "v": ["x"], "c": 0}),
        (KIND_SERIES, {"m": 0, "v": [], "c": 0}),
        (KIND_SERIES, {"m": 0, "v": ["x", "y"], "c": 0}),
        (KIND_SERIES, {"m": 0, "v": [1], "c": 0}),
        (KIND_SERIES, {"m": 0, "v": ["x"], "c": 1}),
        (KIND_SERIES, {"m": 0, "v": ["x"], "c": 0.0}),
        (KIND_SERIES, {"m": False, "v": ["x"], "c": 0}),
        (KIND_SERIES, {"m": 0, "v": "x", "c": False}),
        (KIND_SERIES, {"v": ["x"], "c": 0}),
        (KIND_SERIES, [1, 2]),
        (KIND_SERIES, None),
        (KIND_METRIC, {"n": "\t", "t": "gauge", "h": "", "u": "", "l": [], "b": [], "o": 0}),
        (KIND_METRIC, {"n": "a", "t": ["gauge"], "h": "", "u": "", "l": [], "b": [], "o": 0}),
        (KIND_METRIC, {"n": "a", "t": "histogram", "h": "", "u": "", "l": [], "b": [10**400], "o": 0}),
        (KIND_METRIC, {"n": "a", "t": "gauge", "h": "", "u": "", "l": [{}], "b": [], "o": 0}),
        (KIND_METRIC, {"n": "cpu", "t": "counter", "h": "", "u": "", "l": [], "b": [], "o": 0}),  # the name is taken
        (KIND_METRIC, {"n": "_total", "t": "counter", "h": "", "u": "", "l": [], "b": [], "o": 0}),
        (KIND_METRIC, 3),
        (KIND_LIMIT, {"n": "a", "max": "many"}),
        (KIND_LIMIT, {"n": "a", "max": None}),
        (KIND_LIMIT, {"n": "a", "max": -1}),
        (KIND_LIMIT, {"n": "a", "max": 1 << 63}),
        (KIND_LIMIT, {"n": "a", "max": True}),
        (KIND_LIMIT, {"n": "\ud800", "max": 1}),
        (KIND_LIMIT, {"n": 7, "max": 1}),
    ],
)
def test_a_proven_entry_that_contradicts_the_rules_is_an_error_never_a_crash(kind: int, body: Any) -> None:
    data = catalog_bytes((KIND_METRIC, entries.metric_body(CPU)), (kind, json.dumps(body).encode()))
    catalog = read(data)
    assert catalog.error.startswith("catalog entry at byte")
    assert (catalog.metrics, catalog.series, catalog.limits) == ([CPU], [], {})


def test_a_series_past_the_width_is_an_error() -> None:
    assert "takes columns 6…6 of 6" in read(WHOLE, width=6).error


def test_an_entry_over_the_limit_is_refused_before_it_is_written() -> None:
    with pytest.raises(MetricError, match="over the limit of 65536"):
        entries.entry(KIND_SERIES, b"x" * (MAX_ENTRY_BODY + 1), 0, SALT)


def test_deeply_nested_and_empty_bodies_are_errors() -> None:
    for body in (b"[" * 60_000, b"", b"\xff", b'{"m":'):
        assert read(catalog_bytes((KIND_SERIES, body))).error


@given(data=st.binary(max_size=400), announced=st.integers(0, 1 << 64))
def test_random_bytes_are_no_catalog(data: bytes, announced: int) -> None:
    catalog = read(data, announced)
    assert (catalog.metrics, catalog.series, catalog.used) == ([], [], 0)


def long_catalog() -> bytes:
    """More than two pieces: a metric, and series with labels of 1,000 characters."""
    wide = Metric("wide", "gauge", "W.", "", ("of",))
    bodies = [(KIND_METRIC, entries.metric_body(wide))]
    bodies += [(KIND_SERIES, entries.series_body(0, (str(i).rjust(1000),), i)) for i in range(600)]
    return catalog_bytes(*bodies)


def test_a_long_catalog_is_read_in_pieces_and_a_short_file_ends_it() -> None:
    data, sizes = long_catalog(), list[int]()

    def read_at(start: int, size: int) -> bytes:
        sizes.append(size)
        return data[start : start + size]

    catalog = Catalog()
    entries.extend_in_pieces(catalog, read_at, 1 << 30, len(data), 600, SALT)
    assert (catalog.error, catalog.used, len(catalog.series)) == ("", len(data), 600)
    assert len(sizes) > 2
    assert max(sizes) == entries.PIECE_BYTES
    whole, data = data, data[: entries.PIECE_BYTES + 5]
    catalog = Catalog()
    entries.extend_in_pieces(catalog, read_at, len(whole), len(whole), 600, SALT)
    assert 0 < len(catalog.series) < 600
    data = whole
    entries.extend_in_pieces(catalog, read_at, len(whole), len(whole), 600, SALT)
    assert (catalog.error, len(catalog.series)) == ("", 600)


def test_behind_a_damaged_entry_one_piece_is_read_and_no_more() -> None:
    data, sizes = bytearray(long_catalog()), list[int]()
    data[entries.PIECE_BYTES + 3000] ^= 0xFF

    def read_at(start: int, size: int) -> bytes:
        sizes.append(size)
        return bytes(data[start : start + size])

    catalog = Catalog()
    entries.extend_in_pieces(catalog, read_at, 1 << 30, len(data), 600, SALT)
    assert "does not hold its seal" in catalog.error
    sizes.clear()
    entries.extend_in_pieces(catalog, read_at, 1 << 30, len(data), 600, SALT)
    assert "does not hold its seal" in catalog.error
    assert sizes == [entries.PIECE_BYTES]
