"""Exit statuses of all programs: prints the error that ended a program, and maps it to a status.

If the reader of the output has gone, as in ``… --once | head``, the status is that of a program that SIGPIPE ended.
"""

from __future__ import annotations

import os
import select
import signal
import sys
from collections.abc import Callable
from typing import Final

from shm.errors import ConfigurationError, FogmetricsError

# sysexits.h(3head). supervisord tries again after either; 78 tells a user to correct the configuration.
EX_TEMPFAIL: Final = 75
EX_CONFIG: Final = 78
EX_PIPE: Final = 128 + signal.SIGPIPE


def exit_status(program: str, body: Callable[[], int]) -> int:
    """Run ``body`` and return its status; 78 for a ConfigurationError, 75 for another FogmetricsError, both printed."""
    try:
        return piped(body)
    except FogmetricsError as error:
        for message in error.args if isinstance(error, ConfigurationError) else (error,):
            print(f"{program}: {message}", file=sys.stderr)
        return EX_CONFIG if isinstance(error, ConfigurationError) else EX_TEMPFAIL


def piped(body: Callable[[], int]) -> int:
    """Run ``body`` and return its status; that of SIGPIPE if nobody reads the output any more."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 - None if it is closed
    try:
        try:
            return body()
        finally:  # also after the SystemExit of --help
            sys.stdout.flush()
    except BrokenPipeError:
        unread = [one.fileno() for one in (sys.stdout, sys.stderr) if _is_unread(one.fileno())]
        for descriptor in unread:  # so that the interpreter's own flush at the end has somewhere to write
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        if not unread:
            raise
        return EX_PIPE


def _is_unread(descriptor: int) -> bool:
    """Whether it is a pipe or socket whose other end is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))
