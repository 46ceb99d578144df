"""How each of our programs ends: one message for what went wrong, and an exit status that says whose fault it is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final

from shm.errors import ConfigurationError, FogmetricsError

# sysexits.h(3head). supervisord tries again after either; a person knows from 78 that it is for them.
EX_TEMPFAIL: Final = 75
EX_CONFIG: Final = 78


def exit_status(program: str, body: Callable[[], int]) -> int:
    """What ``body`` returns; 78 for a ConfigurationError, 75 for any other FogmetricsError, said on standard error."""
    try:
        return body()
    except ConfigurationError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return EX_CONFIG
    except FogmetricsError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return EX_TEMPFAIL
