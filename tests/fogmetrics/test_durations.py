"""Durations as people write them."""

from __future__ import annotations

import pytest

from fogmetrics.durations import MAX_DURATION_NS, parse_duration, parse_seconds, written

SECOND = 10**9


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("0.5", 0.5), ("5m", 300), ("1h30m", 5400), ("24h", 86_400), ("1w1d", 691_200), ("500ms", 0.5)],
)
def test_numbers_with_units_and_bare_seconds_are_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == round(seconds * SECOND)


@pytest.mark.parametrize("text", ["", "abc", "5x", "m", "5m5m", "5m1h", " 5m", "5m ", "-5m", "²", "٥m", "1e3", "5m\n"])
def test_what_is_no_duration_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is not a duration; use numbers with ms, s, m, h, d, w"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0", "0s", "0.0", "5300w", "9" * 20, "9" * 20 + "w"])
def test_a_duration_is_more_than_nothing_and_fits_an_int64(text: str) -> None:
    with pytest.raises(ValueError, match=r"^is out of range; give more than 0"):
        parse_duration(text)
    assert MAX_DURATION_NS < 1 << 62


def test_a_time_of_a_configuration_may_be_none() -> None:
    assert [parse_seconds(text) for text in ("0", "0s", "15", "0.1", "100ms", "1h30m")] == [0, 0, 15, 0.1, 0.1, 5400]


@pytest.mark.parametrize("text", ["0", "1ms", "100ms", "15s", "1m15s", "5m", "1h30m", "1d", "7d", "365d", "36500d"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    assert written(parse_seconds(text)) == text
