"""Reports how the programs of a daemon start: a progress line on a terminal, then what runs and what fails."""

from __future__ import annotations

import contextlib
import os
import sys
import time
import xmlrpc.client
from pathlib import Path
from typing import Final, TextIO

from fogmetrics.cli.host import InTheWay
from fogmetrics.cli.supervisor import connected, last_line, settled
from fogmetrics.cli.terminal import RED, painted, progress
from shm.errors import FogmetricsError

# Longer than startsecs, and shorter than the retries of a program that fails.
_SECONDS: Final = 20.0
_POLL_SECONDS: Final = 0.2


def report(directory: Path, stream: TextIO) -> int:
    """Wait until the programs run, or for a while; 0 if all run, else 1."""
    with connected(directory) as supervisor:
        for found in settled(supervisor, _SECONDS):
            running = sum(one["statename"] == "RUNNING" for one in found)
            progress(f"starting: {running} of {len(found)} programs run", stream)
        progress("", stream)
        names = [one["name"] for one in found if one["statename"] == "RUNNING"]
        print(f"fogmetrics runs: {', '.join(names)}", file=stream, flush=True)
        failing = [one for one in found if one["statename"] not in ("RUNNING", "STOPPED")]  # stopped by a user
        for one in failing:
            line = last_line(supervisor, one["name"]) or one["spawnerr"]
            file = os.path.normpath(one["stdout_logfile"])
            text = f"{one['name']} does not run ({one['statename']}): {line}; its log: {file}"
            print(painted(text, RED, stream), file=stream, flush=True)
    return 1 if failing else 0


def report_in_background(directory: Path) -> None:
    """Report from a process of its own, which ends with the report, while this one becomes supervisord."""
    supervisord = os.getpid()
    if child := os.fork():
        os.waitpid(child, 0)
        return
    try:
        if os.fork() == 0:
            _report_of(supervisord, directory)
    finally:
        os._exit(0)


def _report_of(supervisord: int, directory: Path) -> None:
    """The report, as soon as that supervisord answers; nothing if it ends before."""
    deadline = time.monotonic() + _SECONDS
    with contextlib.suppress(KeyboardInterrupt, OSError, FogmetricsError, xmlrpc.client.Error):
        while time.monotonic() < deadline:
            os.kill(supervisord, 0)  # OSError if it has ended
            with contextlib.suppress(InTheWay):
                report(directory, sys.stdout)
                return
            time.sleep(_POLL_SECONDS)
