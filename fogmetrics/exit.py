"""Exit statuses of all programs: prints the error that ended a program, and maps it to a status."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from shm.errors import ConfigurationError, FogmetricsError

# sysexits.h(3head). supervisord tries again after either; 78 tells a user to correct the configuration.
EX_TEMPFAIL: Final = 75
EX_CONFIG: Final = 78


def exit_status(program: str, body: Callable[[], int]) -> int:
    """Run ``body`` and return its status; 78 for a ConfigurationError, 75 for another FogmetricsError, both printed."""
    try:
        return body()
    except FogmetricsError as error:
        for message in error.args if isinstance(error, ConfigurationError) else (error,):
            print(f"{program}: {message}", file=sys.stderr)
        return EX_CONFIG if isinstance(error, ConfigurationError) else EX_TEMPFAIL
