"""A page rendered once except for its numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from exporter.exposition.template import TEXT_ONLY, Line, Lines
from exporter.http.negotiation import Format
from shm.ring.frame import all_absent


def page() -> Lines:
    lines = Lines()
    lines.add_family("a", "gauge", "A.", "", [Line('a{x="1"}', 2), Line('a{x="2"}', 0)])
    lines.add_family("b", "counter", "B.", "", [Line("b_total", 1)])
    return lines


def test_each_line_takes_the_value_at_its_own_place() -> None:
    lines = page()
    assert len(lines) == 3
    assert lines.render(np.array([10.0, 20.0, 30.0]), Format.TEXT) == (
        b"# HELP a A.\n# TYPE a gauge\n"
        b'a{x="1"} 30.0\n'
        b'a{x="2"} 10.0\n'
        b"# HELP b_total B.\n# TYPE b_total counter\n"
        b"b_total 20.0\n"
    )


def test_an_absent_sample_has_no_line_and_an_ordinary_nan_has_one() -> None:
    values = np.concatenate((np.array([math.nan, 1.0]), all_absent(1)))
    assert page().render(values, Format.TEXT) == (
        b'# HELP a A.\n# TYPE a gauge\na{x="2"} NaN\n# HELP b_total B.\n# TYPE b_total counter\nb_total 1.0\n'
    )


def test_a_family_without_lines_leaves_no_trace() -> None:
    lines = Lines()
    lines.add_family("none", "gauge", "N.", "", [])
    lines.add_family("a", "gauge", "A.", "", [Line("a", 0)])
    assert lines.render(np.array([1.0]), Format.TEXT) == b"# HELP a A.\n# TYPE a gauge\na 1.0\n"
    assert Lines().render(np.empty(0), Format.TEXT) == b""


def test_lines_follow_when_samples_come_and_go() -> None:
    lines = page()
    whole, some = np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0])
    some[2:] = all_absent(1)
    first = lines.render(whole, Format.TEXT)
    assert lines.render(some, Format.TEXT) == first.replace(b'a{x="1"} 3.0\n', b"")
    assert lines.render(whole, Format.TEXT) == first


def test_the_two_formats_do_not_share_what_is_kept() -> None:
    lines, values = page(), np.array([1.0, 2.0, 3.0])
    text = lines.render(values, Format.TEXT)
    assert lines.render(values, Format.OPENMETRICS) == text.replace(b"# HELP b_total", b"# HELP b").replace(
        b"# TYPE b_total", b"# TYPE b"
    )
    assert lines.render(values, Format.TEXT) == text


def test_openmetrics_leaves_out_what_it_forbids_and_text_shows_it() -> None:
    lines = Lines()
    lines.add_family("c", "counter", "C.", "", [Line(f'c_total{{x="{i}"}}', i, i) for i in range(5)])
    lines.add_family("t", "gauge", "T.", "", [Line("t", 0, TEXT_ONLY)])
    values = np.concatenate((np.array([math.nan, -1.0, 0.0, math.inf]), all_absent(1)))
    assert lines.render(values, Format.OPENMETRICS) == (
        b'# HELP c C.\n# TYPE c counter\nc_total{x="2"} 0.0\nc_total{x="3"} +Inf\n'
    )
    text = lines.render(values, Format.TEXT)
    assert b'c_total{x="0"} NaN\n' in text
    assert b'c_total{x="1"} -1.0\n' in text
    assert text.endswith(b"t NaN\n")
    assert text.count(b"c_total{") == 4


def test_a_percent_sign_is_no_place_for_a_number_wherever_it_stands() -> None:
    lines = Lines()
    lines.add_family("a", "gauge", "In %, %b of all.", "", [Line('a{x="%b"}', 0)])
    assert lines.render(np.array([1.0]), Format.TEXT) == (b'# HELP a In %, %b of all.\n# TYPE a gauge\na{x="%b"} 1.0\n')


def test_a_page_of_several_parts_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.concatenate((np.arange(9.0), all_absent(1)))
    lines = Lines()
    for family, places in (("a", range(4)), ("b", range(4, 10))):
        lines.add_family(family, "gauge", "H.", "", [Line(f'{family}{{x="{at}"}}', at) for at in places])
    whole = lines.render(values, Format.TEXT)
    assert whole.count(b"\n") == 9 + 4
    for size in (1, 2, 4, 8, 9, 10):
        monkeypatch.setattr("exporter.exposition.template._PART_LINES", size)
        lines._some.clear()
        parts = lines.parts(values, Format.TEXT)
        assert len(parts) == -(-9 // size)
        assert b"".join(parts) == whole
