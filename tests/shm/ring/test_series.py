"""Samples by metric name, out of a ring."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator

import pytest

from shm.errors import MetricError
from shm.metric import Metric
from shm.ring.layout import ABSENT, FLAG_TICK
from shm.ring.reader import RingReader
from shm.ring.series import time_series
from shm.ring.writer import RingWriter

SECOND_NS = 1_000_000_000
HEAT = Metric("heat", "gauge", "Heat.", "celsius", ("room",))
ROWS = Metric("rows_total", "counter", "Rows.")


@pytest.fixture
def reader(namespace: str) -> Iterator[RingReader]:
    """Frames at 100, 90 (its clock was set back) and 110 s: heat of two rooms, one of them absent at first; rows."""
    with RingWriter(namespace, "house", interval_ns=15 * SECOND_NS, capacity=8) as writer:
        for metric, values in ((HEAT, ("hall",)), (HEAT, ("attic",)), (ROWS, ())):
            writer.add_metric(metric)
            writer.add_series(metric, values)
        absent = array("d", ABSENT)[0]
        for at, (seconds, hall, attic, rows) in enumerate(
            [(100, 20.0, absent, 1.0), (90, 19.0, 5.0, 2.0), (110, 21.0, 6.0, 3.0)]
        ):
            row = array("d", [hall, 0.0, rows])
            row[1:2] = array("d", ABSENT) if at == 0 else array("d", [attic])
            writer.append(row, seconds * SECOND_NS, seconds * SECOND_NS, FLAG_TICK)
        with RingReader(namespace, "house") as reader:
            yield reader


def read(
    reader: RingReader, *arguments: object, **keywords: object
) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
    found = time_series(reader, *arguments, **keywords)  # type: ignore[arg-type]
    return [(one.labels, list(zip(one.timestamps.tolist(), one.values.tolist(), strict=True))) for one in found]


def test_each_series_has_its_samples_in_the_order_of_time(reader: RingReader) -> None:
    assert read(reader, "heat") == [
        ({"room": "hall"}, [(90.0, 19.0), (100.0, 20.0), (110.0, 21.0)]),
        ({"room": "attic"}, [(90.0, 5.0), (110.0, 6.0)]),
    ]


def test_both_ends_of_the_range_belong_to_it(reader: RingReader) -> None:
    assert read(reader, "heat", 90, 100, {"room": "hall"}) == [({"room": "hall"}, [(90.0, 19.0), (100.0, 20.0)])]
    assert read(reader, "heat", 90.001, 99.999, {"room": "hall"}) == [({"room": "hall"}, [])]


def test_labels_choose_series_and_fit_none_without_an_error(reader: RingReader) -> None:
    assert [labels for labels, _ in read(reader, "heat", labels={"room": "attic"})] == [{"room": "attic"}]
    assert read(reader, "heat", labels={"room": "cellar"}) == []
    assert read(reader, "heat", labels={"floor": "1"}) == []


def test_a_counter_is_found_with_and_without_its_ending(reader: RingReader) -> None:
    assert read(reader, "rows") == read(reader, "rows_total") == [({}, [(90.0, 2.0), (100.0, 1.0), (110.0, 3.0)])]


def test_a_metric_that_the_ring_lacks_is_named_with_the_closest_that_it_has(reader: RingReader) -> None:
    with pytest.raises(MetricError, match="ring 'house' has no metric 'heet'; did you mean 'heat'"):
        read(reader, "heet")
    with pytest.raises(MetricError, match="no metric 'zzz'; known are heat, rows_total"):
        read(reader, "zzz")


@pytest.mark.parametrize("wrong", [math.nan, math.inf, 1e10, "5m"])
def test_a_time_that_is_no_number_of_seconds_is_refused(reader: RingReader, wrong: float) -> None:
    with pytest.raises(MetricError, match=r"start is .*; give seconds, as a finite number"):
        read(reader, "heat", wrong)
