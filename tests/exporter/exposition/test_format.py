"""Escaping, numbers and headers of both formats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.exposition.format import escape_help, header, numbers
from exporter.http.negotiation import Format
from shm.metric import label_set
from tests.exporter.scene import samples_of
from tests.programs import promtool_says


def test_label_values_have_backslash_quote_and_newline_escaped() -> None:
    assert label_set([("a", 'a\\b"c\nd')]) == r'{a="a\\b\"c\nd"}'
    assert label_set([("a", "1"), ("b", '"')]) == r'{a="1",b="\""}'
    assert label_set([]) == ""


def test_help_keeps_its_quotes_in_text_and_escapes_them_in_openmetrics() -> None:
    assert escape_help('a "b"\n\\', Format.TEXT) == r'a "b"\n\\'
    assert escape_help('a "b"\n\\', Format.OPENMETRICS) == r"a \"b\"\n\\"


@pytest.mark.parametrize(
    ("arguments", "text", "openmetrics"),
    [
        (
            ("packets", "counter", "P.", "packets"),
            "# HELP packets_total P.\n# TYPE packets_total counter\n",
            "# HELP packets P.\n# TYPE packets counter\n",
        ),
        (
            ("uptime_seconds", "gauge", "U.", "seconds"),
            "# HELP uptime_seconds U.\n# TYPE uptime_seconds gauge\n",
            "# HELP uptime_seconds U.\n# TYPE uptime_seconds gauge\n# UNIT uptime_seconds seconds\n",
        ),
        (
            ("replica_count", "gauge", "R.", "replicas"),
            "# HELP replica_count R.\n# TYPE replica_count untyped\n",
            "# HELP replica_count R.\n# TYPE replica_count gauge\n",
        ),
        (
            ("rpc_seconds_sum", "untyped", "S.", ""),
            "# HELP rpc_seconds_sum S.\n# TYPE rpc_seconds_sum untyped\n",
            "# HELP rpc_seconds_sum S.\n# TYPE rpc_seconds_sum unknown\n",
        ),
    ],
)
def test_a_family_is_headed_as_each_format_wants(
    arguments: tuple[str, str, str, str], text: str, openmetrics: str
) -> None:
    assert header(*arguments, Format.TEXT) == text
    assert header(*arguments, Format.OPENMETRICS) == openmetrics


def test_numbers_that_json_does_not_have_are_written_as_prometheus_reads_them() -> None:
    written = numbers(np.array([1.0, math.nan, -math.inf, math.inf, -0.0, 0.1]))
    assert written == [b"1.0", b"NaN", b"-Inf", b"+Inf", b"-0.0", b"0.1"]
    assert numbers(np.empty(0)) == []


@given(st.lists(st.floats()))
def test_every_number_reads_back_exactly(values: list[float]) -> None:
    read = [float(text) for text in numbers(np.array(values, dtype=np.float64))]
    assert [math.copysign(1, one) for one in read if one == 0] == [math.copysign(1, one) for one in values if one == 0]
    np.testing.assert_array_equal(read, values)


def test_a_slice_of_a_matrix_is_written_as_well_as_a_vector_of_its_own() -> None:
    matrix = np.arange(6.0).reshape(3, 2)
    assert numbers(matrix[:, 1]) == [b"1.0", b"3.0", b"5.0"]


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_label_value_reads_back_exactly(value: str) -> None:
    openmetrics = f"# TYPE x gauge\nx{label_set([('a', value)])} 1.0\n# EOF\n"
    assert list(samples_of(openmetrics, Format.OPENMETRICS)) == [("x", (("a", value),))]


@pytest.mark.real
def test_promtool_reads_hostile_labels_and_help() -> None:
    hostile = 'quote " backslash \\ newline \n tab \t brace } equals = hash # ünicode \u2028 😀'
    page = header("x", "gauge", hostile, "", Format.TEXT) + f"x{label_set([('a', hostile)])} 1.0\n"
    assert samples_of(page) == {("x", (("a", hostile),)): 1.0}
    promtool_says(page)
