"""Asks a daemon's supervisord, by XML-RPC at its Unix socket, as supervisorctl does."""

from __future__ import annotations

import contextlib
import time
import xmlrpc.client
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from supervisor.xmlrpc import SupervisorTransport

from fogmetrics.cli.directory import supervisor_socket
from fogmetrics.cli.host import InTheWay

_POLL_SECONDS: Final = 0.2
_FIRST_SECONDS: Final = 3.0
_LINE_BYTES: Final = 2000  # of a log, to find its last line
_NO_REASON: Final = "supervisor: child process was not spawned"  # the line before has the reason


@contextlib.contextmanager
def connected(directory: Path) -> Iterator[Any]:
    """The methods ``supervisor.*`` of the supervisord of that directory. Raises InTheWay if none can be asked."""
    socket = supervisor_socket(directory)
    transport = SupervisorTransport(None, None, f"unix://{socket}")
    with xmlrpc.client.ServerProxy("http://127.0.0.1", transport) as proxy:
        try:
            proxy.supervisor.getState()
        except xmlrpc.client.Fault:  # SHUTDOWN_STATE, by every method
            raise InTheWay(f"supervisord at {socket} is stopping its programs; try again when it has stopped") from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise InTheWay(
                f"no daemon runs in {directory.resolve()}: nothing listens on {socket}; start it with fogmetrics run"
            ) from None
        except OSError as error:
            raise InTheWay(f"supervisord can't be asked at {socket}: {error.strerror}; run as its user") from None
        try:
            yield proxy.supervisor
        except xmlrpc.client.Fault as fault:  # such as SHUTDOWN_STATE
            raise InTheWay(f"supervisord at {socket} refuses: {fault.faultString}") from None


def last_line(supervisor: Any, program: str) -> str:
    """The last line of a program's log; empty if there is none."""
    with contextlib.suppress(xmlrpc.client.Fault):
        lines: list[str] = supervisor.tailProcessStdoutLog(program, 0, _LINE_BYTES)[0].splitlines()
        return next((line for line in reversed(lines) if line.strip() and line != _NO_REASON), "")
    return ""


def settled(supervisor: Any, seconds: float) -> Iterator[list[dict[str, Any]]]:
    """All programs, again and again, until none is starting or ``seconds`` have passed.

    A program that is STOPPED is one that a user stopped, but in the first moments of supervisord one that is to start.
    """
    begun = time.monotonic()
    while True:
        programs: list[dict[str, Any]] = supervisor.getAllProcessInfo()
        yield programs
        passed = time.monotonic() - begun
        waited_for = ("STARTING", "BACKOFF", *(("STOPPED",) if passed < _FIRST_SECONDS else ()))
        if passed > seconds or not any(one["statename"] in waited_for for one in programs):
            return
        time.sleep(_POLL_SECONDS)
