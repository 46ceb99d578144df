"""Bounded, exception-safe ``repr()`` and ``str()`` of foreign objects, for messages."""

from __future__ import annotations

from shm.errors import FogmetricsError

_MOST = 200


def shown(value: object) -> str:
    """``repr(value)``, shortened; its class where it has none."""
    try:
        return shortened(repr(value))
    except Exception:  # noqa: BLE001 - a foreign __repr__, or one that nests too deep
        return f"<{type(value).__name__} without a repr>"


def shortened(text: str) -> str:
    """``text``, cut to its first characters where it is long."""
    return text if len(text) <= _MOST else f"{text[:_MOST]}…"


def said(error: BaseException) -> str:
    """A sentence of ours as it is; anything else with its class, which may be all that it says."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - a foreign __str__
        return type(error).__name__
    return text if isinstance(error, FogmetricsError) else f"{type(error).__name__}: {text}"
