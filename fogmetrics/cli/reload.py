"""``fogmetrics reload``: have a running daemon take over its configuration.

The configuration is checked first: a mistake changes nothing. Then supervisord, asked at its socket, starts the
programs of sources that were turned on, ends those of sources that were turned off, and restarts those whose
configuration has changed: all of them after an upgrade. The exporter is only told to reread it (SIGHUP) if it takes
over all that has changed. Programs that have ended or were given up are started again. The others run on. Rings stay.
supervisord itself is not restarted: changes of its own sections of supervisord.conf, such as [supervisord], wait for
the next start of the daemon.

Exit status: 0 if all programs run afterwards, 1 if one does not, 75 if no daemon runs, 78 for a wrong configuration.
"""

from __future__ import annotations

import argparse
import sys
import xmlrpc.client
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from collector.source import MetricSource
from fogmetrics.cli import check, directory, programs
from fogmetrics.cli.start import report
from fogmetrics.cli.supervisor import connected
from fogmetrics.config import Config
from fogmetrics.exit import exit_status
from shm.errors import ConfigurationError

_ENDED: Final = ("FATAL", "EXITED", "BACKOFF")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="fogmetrics reload", description="Have a running daemon take over its configuration."
    )
    directory.add_arguments(parser)
    options = parser.parse_args(arguments)
    path = options.directory

    def body() -> int:
        directory.check_is_one(path, options.config)
        with connected(path) as supervisor:
            try:
                config, sources = check.examine(path, options.config)
            except ConfigurationError:
                print("fogmetrics: nothing was changed", file=sys.stderr)
                raise
            for note in check.notes(config, sources, path):
                print(f"fogmetrics: note: {note}", file=sys.stderr)
            done = reload(supervisor, path, config, sources)
            for line in done or ["nothing has changed"]:
                print(line)
            return report(path, sys.stdout)

    return exit_status("fogmetrics", body)


def reload(supervisor: Any, path: Path, config: Config, sources: Iterable[MetricSource]) -> list[str]:
    """Write the programs and have supervisord take them over; a line for each program that this concerned.

    Raises ConfigurationError if supervisord refuses its configuration: then the programs are as they were.
    """
    file = directory.run_directory(path) / programs.FILE
    before = file.read_text() if file.exists() else None
    programs.write(path, config, sources)
    try:
        [[added, changed, removed]] = supervisor.reloadConfig()
    except xmlrpc.client.Fault as fault:
        if before is None:
            file.unlink()
        else:
            programs.replace(file, before)
        raise ConfigurationError(
            f"supervisord refuses {path / directory.SUPERVISORD_CONF} or a file of conf.d: {fault.faultString}; "
            "nothing was changed"
        ) from None
    for name in (*removed, *changed):
        supervisor.stopProcessGroup(name)
        supervisor.removeProcessGroup(name)
    for name in (*changed, *added):
        supervisor.addProcessGroup(name)
    others = [one for one in supervisor.getAllProcessInfo() if one["group"] not in (*changed, *added)]
    again = [one for one in others if one["statename"] in _ENDED]
    for one in again:
        if one["statename"] == "BACKOFF":  # which counts as running; its next start would come later and later
            supervisor.stopProcess(f"{one['group']}:{one['name']}")
        supervisor.startProcess(f"{one['group']}:{one['name']}", False)
    # Also if nothing has changed: it may have refused the same configuration before, for a file that it could not read.
    rereads = [one for one in others if one["name"] == "exporter" and one["statename"] == "RUNNING"]
    for one in rereads:
        supervisor.signalProcess(f"{one['group']}:{one['name']}", "HUP")
    if _taken_over(before or "") == _taken_over(file.read_text()):
        rereads = []
    return [
        *(f"{name}: stopped" for name in removed),
        *(f"{name}: restarted" for name in changed),
        *(f"{name}: started" for name in added),
        *(f"{one['name']}: started again" for one in again),
        *(f"{one['name']}: reread its configuration" for one in rereads),
    ]


def _taken_over(text: str) -> list[str]:
    """The line of what the exporter takes over without a restart."""
    return [line for line in text.splitlines() if line.startswith(programs.TAKEN_OVER)]
