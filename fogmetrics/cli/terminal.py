"""Colour and progress for people: only on a terminal, and colour not where NO_COLOR is set (https://no-color.org)."""

from __future__ import annotations

import os
from typing import Final, TextIO

RED, GREEN, YELLOW, GREY = "31", "32", "33", "90"
_CLEAR: Final = "\r\x1b[K"


def painted(text: str, colour: str, stream: TextIO) -> str:
    """The text in a colour, if the stream shows colours."""
    plain = not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{colour}m{text}\x1b[0m"


def progress(text: str, stream: TextIO) -> None:
    """Replace the progress line of a terminal by ``text``; the empty text removes it."""
    if stream.isatty():
        stream.write(f"{_CLEAR}{text}")
        stream.flush()


def ago(seconds: float) -> str:
    """A time in one or two units: 4 s, 3 min, 2 h 5 min, 8 d 3 h."""
    whole = round(seconds)
    for unit, name, smaller, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= unit:
            rest = whole % unit // smaller
            return f"{whole // unit} {name} {rest} {small}" if rest else f"{whole // unit} {name}"
    return f"{whole // 60} min" if whole >= 60 else f"{whole} s"
