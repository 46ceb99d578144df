"""Files: reads files of /proc or /sys below a prefix. A line that can't be read costs itself alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from shm.safe_repr import shown

T = TypeVar("T")


class Files:
    """Files below ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.rstrip("/")

    def content(self, name: str) -> bytes:
        """The whole file. Raises OSError."""
        with open(self.path(name), "rb", buffering=0) as file:
            return file.read() or b""

    def text(self, name: str) -> str:
        """The whole text of a file; invalid UTF-8 becomes U+FFFD, as in node_exporter. Raises OSError."""
        return self.content(name).decode(errors="replace")

    def lines(self, name: str, parse: Callable[[str], T | None]) -> tuple[list[T], list[str]]:
        """:func:`each_line` of a file. Raises OSError."""
        return each_line(self.path(name), self.text(name), parse)

    def passing(self, name: str) -> str | None:
        """The stripped text of a file that may vanish with its device; None if it can't be read now."""
        try:
            return self.text(name).strip()
        except OSError:
            return None

    def passing_number(self, name: str) -> tuple[list[float], list[str]]:
        """:meth:`lines` of a file of one number that may vanish with its device; nothing if it can't be read now."""
        try:
            return self.lines(name, whole)
        except OSError:
            return [], []

    def names(self, directory: str) -> list[str]:
        """Sorted names in a directory; none if it does not exist. Raises any other OSError."""
        try:
            return sorted(os.listdir(self.path(directory)))
        except FileNotFoundError:
            return []

    def path(self, name: str) -> str:
        return f"{self._prefix}/{name}"


def whole(text: str) -> float:
    """A whole number. Raises ValueError, and OverflowError for one that no float64 holds."""
    return float(int(text))


def each_line(path: str, text: str, parse: Callable[[str], T | None]) -> tuple[list[T], list[str]]:
    """(what ``parse`` returns of each line, an error for each line for which it raises ValueError or
    OverflowError).

    Blank lines are passed over, and those of which ``parse`` returns None. ``path`` is for errors. Lines end at "\\n"
    alone: splitlines() also splits at characters that a name may contain.
    """
    found: list[T] = []
    errors: list[str] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.isspace():
            continue
        try:
            one = parse(line)
        except (ValueError, OverflowError):
            errors.append(
                f"line {number} of {path} is {shown(line)}, which can't be read, and is left out; see whether the "
                "kernel writes it or something mounted there, and report it"
            )
            continue
        if one is not None:
            found.append(one)
    return found, errors
