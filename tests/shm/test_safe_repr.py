"""A value from elsewhere is shown in one short line, whatever it is."""

from __future__ import annotations

import pytest

from shm.safe_repr import shortened, shown


def deep() -> object:
    value: object = 1
    for _ in range(10_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value", [deep(), "\n" * 1000, "\ud800", b"\x00" * 1000, 10**5000, {"a" * 1000: ["b" * 1000] * 1000}],
    ids=["deep", "line ends", "surrogate", "bytes", "digits", "object"],
)  # fmt: skip
def test_a_value_is_shown_in_one_short_line(value: object) -> None:
    assert len(shown(value)) <= 201
    assert shown(value).isprintable()


def test_a_short_text_is_left_as_it_is() -> None:
    assert (shown("x"), shortened("x" * 200), shortened("x" * 201)) == ("'x'", "x" * 200, f"{'x' * 200}…")
