"""Parses durations such as 5m or 1h30m to nanoseconds. Pure; linear time for any text.

    5m   1h30m   7d   500ms       numbers with units, each unit once, the largest first
    90   0.5                      a bare number of seconds

The syntax is Prometheus'.
"""

from __future__ import annotations

import re
from typing import Final

MAX_DURATION_NS: Final = 100 * 365 * 86_400 * 10**9  # so that now − duration stays within an int64

_UNITS_MS: Final = {"w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}

# Neither backtracks: no input makes them slow.
_SECONDS = re.compile(r"([0-9]{1,20})(?:\.([0-9]{1,9}))?\Z")
_PART = re.compile(r"([0-9]{1,20})(ms|[wdhms])")


def parse_duration(text: str) -> int:
    """Nanoseconds of ``text``, greater than 0 and at most 100 years.

    Raises ValueError with the rest of a sentence that begins with the text: "… is not a duration; use …".
    """
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
    if not 0 < total <= MAX_DURATION_NS:
        raise ValueError("is out of range; give more than 0 and at most 100 years")
    return total
