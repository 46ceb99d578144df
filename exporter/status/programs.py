"""The programs of the daemon, from a file that its supervisord writes: which there are, and which fail.

fogmetrics.cli.notify writes the file from inside supervisord, beside supervisord's socket. The user of the exporter may
read the file, but may not open the socket: whoever can, controls the programs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

FILE: Final = "programs.json"
FAILING: Final = ("FATAL", "BACKOFF", "EXITED")  # states of supervisord
_NOT_RESTARTED: Final = ("FATAL", "STOPPED")
# A program that ended by itself so often in the last RECENT_SECONDS has a fault, though supervisord starts it again.
MANY_ENDS: Final = 3
RECENT_SECONDS: Final = 600.0


class Program(NamedTuple):
    """``state``: supervisord's; ``starts``: since supervisord began; ``recent_ends``: how often it ended by itself in
    the last RECENT_SECONDS; ``why``: the reason for a failing state; ``log``: the path of its log, may be empty.
    """

    state: str
    starts: int
    recent_ends: int
    why: str
    log: str


def server_directory(environ: Mapping[str, str] = os.environ) -> Path | None:
    """The directory of the socket of the supervisord that started this process; None if there is none."""
    url = environ.get("SUPERVISOR_SERVER_URL", "")
    return Path(url.removeprefix("unix://")).parent if url.startswith("unix://") else None


def read(directory: Path | None) -> dict[str, Program] | None:
    """The programs by name, from the file in that directory; None if there is no readable one."""
    if directory is None:
        return None
    try:
        found = json.loads((directory / FILE).read_text())
        return {name: Program(*fields) for name, fields in found.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def text(programs: Mapping[str, Program]) -> str:
    """The text of the file."""
    return json.dumps(programs)


def problems(programs: Mapping[str, Program]) -> Iterable[str]:
    """A sentence for each program that fails, or ends again and again."""
    for name, one in programs.items():
        says_why = f"; its log, {os.path.normpath(one.log)}, says why" if one.log else ""
        if one.recent_ends >= MANY_ENDS and one.state not in _NOT_RESTARTED:
            yield f"program {name} has {ends_text(one.recent_ends)}{says_why}"
        elif one.state in FAILING:
            starts = f"{one.starts} start{'s' * (one.starts != 1)}"
            yield f"program {name} is {one.state} after {starts}: {one.why}{says_why}"


def ends_text(ends: int) -> str:
    return f"ended {ends} times in the last {RECENT_SECONDS / 60:g} minutes"
