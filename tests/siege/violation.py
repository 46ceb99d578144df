"""Violation, which every check raises. Imports nothing, so that the emulated side of ``emulated`` can use it."""

from __future__ import annotations


class Violation(AssertionError):
    """A promise was broken. The message names the promise, the place and the value."""


def require(holds: object, promise: str) -> None:
    """Raise Violation with that sentence unless ``holds`` is true."""
    if not holds:
        raise Violation(promise)
