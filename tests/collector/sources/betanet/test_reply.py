from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.sources.betanet.reply import ENDPOINTS, read_reply

METRICS, NODES, NETWORK = ENDPOINTS.values()
HERE = "http://betanet/api"


def test_the_examples_of_the_endpoints_are_read() -> None:
    assert read_reply(b'{"packets_processed": 5000, "packets_dropped": 10}', METRICS, HERE).values == {
        "betanet_packets_processed": 5000.0,
        "betanet_packets_dropped": 10.0,
    }
    assert read_reply(b'{"active_nodes": 5, "inactive_nodes": 2, "total_nodes": 7}', NODES, HERE).values == {
        "betanet_connections": 5.0,
    }
    assert read_reply(b'{"avg_latency_ms": 45.0, "peak_throughput": "?"}', NETWORK, HERE).values == {
        "betanet_latency": 45.0,
    }


def test_a_zero_is_a_value() -> None:
    reading = read_reply(b'{"packets_processed": 0, "packets_dropped": 0.0}', METRICS, HERE)
    assert list(reading.values.values()) == [0.0, 0.0]
    assert reading.errors == ()


def test_a_missing_field_costs_that_field_only() -> None:
    reading = read_reply(b'{"packets_dropped": 10}', METRICS, HERE)
    assert reading.answered
    assert reading.values == {"betanet_packets_dropped": 10.0}
    assert reading.errors == (f"{HERE} answered without the field 'packets_processed'; check that url is Betanet's",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("-1", "-1"),
        ("-0.5", "-0.5"),
        ("true", "True"),
        ("null", "None"),
        ('"5"', "'5'"),
        ("[5]", "[5]"),
        ("{}", "{}"),
        ("1e999", "inf"),
        ("-1e999", "-inf"),
        ("1" + "0" * 400, "1000"),
    ],
)
def test_a_field_that_is_no_number_from_zero_up_is_absent_and_named(text: str, said: str) -> None:
    reading = read_reply(f'{{"active_nodes": {text}}}'.encode(), NODES, HERE)
    assert reading.answered
    assert reading.values == {}
    [error] = reading.errors
    assert error.startswith(f"{HERE} answered active_nodes = {said}")
    assert len(error) < 400


@pytest.mark.parametrize(
    ("endpoint", "field", "most"), [(METRICS, "packets_dropped", 2**64), (NETWORK, "avg_latency_ms", 2**32)]
)
def test_a_number_that_none_can_have_is_absent_and_named(endpoint: Mapping[str, str], field: str, most: int) -> None:
    """A sum that has once taken 1e300 never changes again, and it goes on over restarts."""
    assert list(read_reply(f'{{"{field}": {most}}}'.encode(), endpoint, HERE).values.values()) == [float(most)]
    reading = read_reply(f'{{"{field}": 1e300}}'.encode(), endpoint, HERE)
    assert reading.values == {}
    assert f"{HERE} answered {field} = 1e+300; it must be a number from 0 to {most}" in reading.errors


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ": its answer is not JSON"),
        (b'{"active_nodes": ' + b"9" * 100_000 + b"}", ": its answer is not JSON"),
        (b'{"a":' * 49_000, ": its answer is JSON that is nested too deep"),
        (b'"text"', " answered 'text'; it must be a JSON object"),
        (b"[" * 500 + b"]" * 500, "; it must be a JSON object"),
    ],
)
def test_a_body_that_is_no_json_object_is_no_answer(body: bytes, words: str) -> None:
    reading = read_reply(body, NODES, HERE)
    assert not reading.answered
    [error] = reading.errors
    assert error.startswith(HERE)
    assert words in error
    assert len(error) < 300


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_fail(body: bytes) -> None:
    reading = read_reply(body, NODES, HERE)
    assert len(reading.values) + len(reading.errors) == 1


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(_JSON)
def test_whatever_a_field_holds_is_a_number_from_zero_up_or_an_error(value: object) -> None:
    reading = read_reply(json.dumps({"active_nodes": value}).encode(), NODES, HERE)
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 2**64
    assert list(reading.values.values()) == ([float(value)] if good else [])  # type: ignore[arg-type]  # good: a number
    assert len(reading.errors) == (0 if good else 1)
