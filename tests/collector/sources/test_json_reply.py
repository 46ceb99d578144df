"""JSON of other programs: what its bounds let through, and what they refuse before it takes memory."""

from __future__ import annotations

import contextlib
import tracemalloc

import pytest

from collector.sources import json_reply


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"<html>", "not JSON .*: '<html>'"),
        (b"[1", "not JSON"),
        (b"\xff", "not JSON"),
        (b'[{"a": NaN}]', "not JSON .*NaN is not JSON"),
        (b'{"a": -Infinity}', "not JSON .*-Infinity is not JSON"),
        (b"[" + b"9" * 5000 + b"]", "not JSON"),
        (b"[" * 40_000 + b"]" * 40_000, "nested too deep"),
        (b"[" + b"{}," * 50_000 + b"{}]", "more than 50000 objects and lists"),
        (b"[" + b"[]," * 50_000 + b"[]]", "more than 50000 objects and lists"),
        (b"[" + b"1," * 150_001 + b"1]", "more than 150000 values"),
        (b'{"a":1' + b',"b":2' * 75_001 + b"}", "more than 150000 values"),
    ],
)
def test_what_is_no_json_or_too_much_of_it_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        json_reply.parse_json(body)


def test_what_is_within_the_bounds_is_read() -> None:
    assert json_reply.parse_json(b'[{"a": "\xc3\xa4"}]') == [{"a": "ä"}]
    assert json_reply.parse_json(b"\xef\xbb\xbf[]") == []  # a byte order mark
    assert len(json_reply.parse_json(b"[" + b"{}," * 49_998 + b"{}]")) == 49_999


def test_an_answer_of_four_mebibytes_takes_no_more_than_32_of_memory() -> None:
    size = 4 * 2**20
    for unit in (b"[],", b'"ab",', b'{"a":1},', b"1e5,", b'"' + b"x" * 60 + b'",'):
        body = (b"[" + unit * ((size - 3) // len(unit)) + b"0]")[:size]
        tracemalloc.start()
        with contextlib.suppress(ValueError):
            json_reply.parse_json(body)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 32 * 2**20, unit


@pytest.mark.parametrize("document", [{}, None, "web", 3, [[1]], ["web"], [None], [{}, 1]])
def test_a_document_that_is_no_list_of_objects_is_refused(document: object) -> None:
    with pytest.raises(ValueError, match="not a list"):
        json_reply.objects(document)


@pytest.mark.parametrize(
    ("value", "read"),
    [(0, 0), (3, 3), (2.0, 2), (2**64 - 1, 2**64 - 1), (2**64, None), (-1, None), (1.5, None), (True, None),
     (float("inf"), None), ("3", None), (None, None), ([], None), (1e300, None)],
)  # fmt: skip
def test_a_count_is_a_whole_number_of_64_bits(value: object, read: int | None) -> None:
    assert json_reply.count(value) == read
