"""A page rendered once except for its numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.exposition.template import TEXT_ONLY, FamilyLines, Line, Lines
from exporter.http.negotiation import Format
from shm.ring.frame import all_absent


def page() -> Lines:
    return Lines(
        [
            FamilyLines("a", "gauge", "A.", "", [Line("", [("x", "1")], 2), Line("", [("x", "2")], 0)]),
            FamilyLines("none", "gauge", "N.", "", []),
            FamilyLines("b", "counter", "B.", "", [Line("_total", (), 1)]),
        ]
    )


def text(lines: Lines, values: NDArray[np.float64], form: Format = Format.TEXT) -> bytes:
    return b"".join(lines.parts(values, form))


TEXT = (
    b"# HELP a A.\n# TYPE a gauge\n"
    b'a{x="1"} 30.0\n'
    b'a{x="2"} 10.0\n'
    b"# HELP b_total B.\n# TYPE b_total counter\n"
    b"b_total 20.0\n"
)  # fmt: skip
OPENMETRICS = TEXT.replace(b"HELP b_total", b"HELP b").replace(b"TYPE b_total", b"TYPE b")


def test_each_line_takes_the_value_at_its_own_place_whatever_was_rendered_before() -> None:
    lines, whole = page(), np.array([10.0, 20.0, 30.0])
    some = np.concatenate((np.array([math.nan, 20.0]), all_absent(1)))
    for _ in range(2):
        assert text(lines, whole) == TEXT
        assert text(lines, whole, Format.OPENMETRICS) == OPENMETRICS
        # An absent sample has no line, an ordinary NaN has one.
        assert text(lines, some) == TEXT.replace(b'a{x="1"} 30.0\n', b"").replace(b"10.0", b"NaN")
    assert text(Lines(), np.empty(0)) == b""


def test_openmetrics_leaves_out_what_it_forbids_and_text_shows_it() -> None:
    lines = Lines(
        [
            FamilyLines("c", "counter", "C.", "", [Line("_total", [("x", str(i))], i, i) for i in range(5)]),
            FamilyLines("t", "gauge", "T.", "", [Line("", (), 0, TEXT_ONLY)]),
        ]
    )
    values = np.concatenate((np.array([math.nan, -1.0, 0.0, math.inf]), all_absent(1)))
    assert text(lines, values, Format.OPENMETRICS) == (
        b'# HELP c C.\n# TYPE c counter\nc_total{x="2"} 0.0\nc_total{x="3"} +Inf\n'
    )
    shown = text(lines, values)
    assert b'c_total{x="0"} NaN\n' in shown
    assert b'c_total{x="1"} -1.0\n' in shown
    assert shown.endswith(b"t NaN\n")
    assert shown.count(b"c_total{") == 4


def test_a_percent_sign_is_no_place_for_a_number_wherever_it_stands() -> None:
    lines = Lines([FamilyLines("a", "gauge", "In %, %b of all.", "", [Line("", [("x", "%b")], 0)])])
    assert text(lines, np.array([1.0])) == b'# HELP a In %, %b of all.\n# TYPE a gauge\na{x="%b"} 1.0\n'


@pytest.mark.parametrize("size", [1, 2, 4, 8, 9, 10])
def test_a_page_of_several_parts_is_whole(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    values = np.concatenate((np.arange(9.0), all_absent(1)))

    def lines() -> Lines:
        families = [("a", range(4)), ("b", range(4, 10))]
        return Lines(
            FamilyLines(name, "gauge", "H.", "", [Line("", [("x", str(at))], at) for at in places])
            for name, places in families
        )

    whole = text(lines(), values)
    assert whole.count(b"\n") == 9 + 4
    monkeypatch.setattr("exporter.exposition.template._PART_LINES", size)
    parts = lines().parts(values, Format.TEXT)
    assert len(parts) == -(-9 // size)
    assert b"".join(parts) == whole
