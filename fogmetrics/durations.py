"""Parses durations such as 5m or 1h30m, and writes them. Pure; linear time for any text.

    5m   1h30m   7d   500ms       numbers with units, each unit once, the largest first
    90   0.5                      a bare number of seconds

The syntax is Prometheus'.
"""

from __future__ import annotations

import re
from typing import Annotated, Final

# The type of a key of the configuration that is a duration: a number of seconds, or a text such as "1h30m".
Seconds = Annotated[float, "seconds"]

MAX_DURATION_NS: Final = 100 * 365 * 86_400 * 10**9  # so that now − duration stays within an int64

_UNITS_MS: Final = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}

# Neither backtracks: no input makes them slow.
_SECONDS = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,9}))?\Z")
_PART = re.compile(r"([0-9]{1,20})(ms|[wdhms])")


def parse_duration(text: str) -> int:
    """Nanoseconds of ``text``, greater than 0 and at most 100 years.

    Raises ValueError with the rest of a sentence that begins with the text: "… is not a duration; use …".
    """
    total = _nanoseconds(text)
    if not 0 < total <= MAX_DURATION_NS:
        raise ValueError("is out of range; give more than 0 and at most 100 years")
    return total


def parse_seconds(text: str) -> float:
    """Seconds of ``text``, 0 or more. Raises ValueError like parse_duration()."""
    return _nanoseconds(text) / 1e9


def written(seconds: float) -> str:
    """The shortest text of a duration, such as 1h30m; 0 or more, to the millisecond."""
    rest, parts = round(seconds * 1000), []
    for unit, milliseconds in _UNITS_MS.items():
        if unit != "w" and rest >= milliseconds:  # nobody says 1w1d for 8d
            parts.append(f"{rest // milliseconds}{unit}")
            rest %= milliseconds
    return "".join(parts) or "0"


def _nanoseconds(text: str) -> int:
    total, position, smallest = 0, 0, MAX_DURATION_NS
    if seconds := _SECONDS.match(text):
        total = int(seconds[1]) * 10**9 + int((seconds[2] or "").ljust(9, "0"))
    else:
        while part := _PART.match(text, position):
            unit = _UNITS_MS[part[2]] * 10**6
            if unit >= smallest:  # a unit twice, or a larger one after a smaller one
                break
            total, position, smallest = total + int(part[1]) * unit, part.end(), unit
        if position != len(text) or not text:
            raise ValueError(
                "is not a duration; use numbers with ms, s, m, h, d, w, the largest unit first, "
                "such as 5m, 1h30m or 24h"
            )
    return total
