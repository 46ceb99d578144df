"""Finds the line of a source's code in which an exception was raised."""

from __future__ import annotations

import traceback
from typing import Final

from shm.errors import ConfigurationError

# Modules between the collector and the code of a source.
_BETWEEN: Final = (
    "collector.dry_run", "collector.loop", "collector.registry", "collector.sources.custom_collector", "asyncio",
    "concurrent", "importlib",
)  # fmt: skip


def raised_at(error: BaseException) -> str:
    """ "; raised at FILE:LINE in FUNCTION", the innermost line of the source's own package; libraries it calls are
    passed over. Empty if there is none, or if the error is about the configuration.
    """
    if isinstance(error, ConfigurationError):
        return ""
    package, found = "", ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = frame.f_globals.get("__name__", "")
        if any(f"{module}.".startswith(f"{one}.") for one in _BETWEEN):
            continue
        package = package or module.partition(".")[0]
        if module.partition(".")[0] == package:
            found = f"; raised at {frame.f_code.co_filename}:{line} in {frame.f_code.co_name}"
    return found
