"""Bounded, exception-safe ``repr()`` and ``str()`` of objects from sources, for messages; the operating system's names
as text, for messages and labels.
"""

from __future__ import annotations

import os

from shm.errors import FogmetricsError

_MOST = 200


def shown(value: object) -> str:
    """``repr(value)``, shortened; the class name if ``repr()`` raises."""
    try:
        return shortened(repr(value))
    except Exception:  # noqa: BLE001 - a source's __repr__, or too deep a recursion
        return f"<{type(value).__name__} without a repr>"


def shortened(text: str) -> str:
    """``text``, cut after 200 characters."""
    return text if len(text) <= _MOST else f"{text[:_MOST]}…"


def said(error: BaseException) -> str:
    """The error's message; of one that is no FogmetricsError shortened, with the class name in front."""
    if isinstance(error, FogmetricsError):
        return str(error)
    try:
        return f"{type(error).__name__}: {shortened(str(error))}"
    except Exception:  # noqa: BLE001 - a source's __str__
        return type(error).__name__


def readable(name: str) -> str:
    """A path or another name from the operating system as valid text: U+FFFD for bytes that are not UTF-8.

    Python keeps such bytes as lone surrogates (PEP 383), which name the file but are no text. So ask for ``name``
    itself, and show this.
    """
    return os.fsencode(name).decode(errors="replace")
