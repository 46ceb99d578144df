from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.settings import windows_ns
from fogmetrics.config import Config, parse
from shm.errors import ConfigurationError

FILE = Path("etc/fog.toml")


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ('window = "abc"', 'window is \'abc\'; give a duration, such as 15, "15s" or "1h30m"'),
        ('window = ""', "window is ''; give a duration"),
        ('window = "0"', "window is '0'; give a duration from 1ms to 36500d"),
        ('max_window = "1x"', "max_window is '1x'; give a duration"),
        ('window = "8d"', "window is 8d, longer than max_window, 7d; lower the one or raise the other, since"),
    ],
)
def test_a_window_that_no_request_could_have_is_refused(keys: str, says: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"etc/fog.toml: [exporter] {says}")):
        windows_ns(parse(f"[exporter]\n{keys}\n", FILE))


def test_windows_are_nanoseconds_and_may_be_equal() -> None:
    assert windows_ns(Config()) == (300 * 10**9, 7 * 86_400 * 10**9)
    assert windows_ns(parse('[exporter]\nwindow = "1d"\nmax_window = "24h"\n', FILE)) == (86_400 * 10**9,) * 2
