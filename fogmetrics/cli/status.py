"""``fogmetrics status``: the programs and sources of a daemon, and what is wrong with each.

Exit status: 0 if all is well, 1 if something is wrong, 75 if no daemon runs, 78 for a wrong configuration.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from collector import registry
from collector.source import MetricSource
from exporter.rings import RingSet
from exporter.status.programs import FAILING, MANY_ENDS, Program, ends_text, read
from exporter.status.stats import health
from fogmetrics.cli import directory, programs
from fogmetrics.cli.supervisor import connected, last_line
from fogmetrics.cli.terminal import GREEN, GREY, RED, YELLOW, ago, painted
from fogmetrics.config import Config
from fogmetrics.exit import exit_status

_COLOURS: Final = {"running": GREEN, "starting": YELLOW, "off": GREY}


class Row(NamedTuple):
    """One program or source. ``age``: of its newest frame; ``wrong``: what is wrong; empty: nothing."""

    name: str
    state: str
    since: str = ""
    starts: str = ""
    age: str = ""
    wrong: str = ""


TITLES: Final = Row("NAME", "STATE", "FOR", "STARTS", "LAST FRAME", "WRONG")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="fogmetrics status",
        description="Show the programs and sources of a daemon, and what is wrong. Exit status: 0 if all is well.",
    )
    directory.add_arguments(parser)
    options = parser.parse_args(arguments)

    def body() -> int:
        directory.check_is_one(options.directory, options.config)
        config = directory.load(options.directory, options.config)
        with connected(options.directory) as supervisor:
            found = supervisor.getAllProcessInfo()
            lines = {one["name"]: last_line(supervisor, one["name"]) for one in found if one["statename"] in FAILING}
        counted, sources = read(directory.run_directory(options.directory)) or {}, programs.all_sources(config)
        shown = rows(found, counted, lines, rings_of(config), programs.on(config, sources), registry.off(config))
        for line in table(shown):
            print(line)
        if changed := _changed(options.directory, config, sources):
            print(changed)
        return 1 if changed or any(row.wrong for row in shown) else 0

    return exit_status("fogmetrics", body)


def rings_of(config: Config) -> Mapping[str, Mapping[str, Any]]:
    """The sources that have rings, as /health describes them."""
    rings = RingSet(
        config.shm.namespace,
        owner=config.ring_owner(),
        off=registry.off(config),
        latest_only=True,
        stale_intervals=config.exporter.stale_intervals,
    )
    try:
        found: dict[str, dict[str, Any]] = health(rings)[1]["sources"]
        return found
    finally:
        rings.close()


def rows(
    found: Sequence[Mapping[str, Any]],
    counted: Mapping[str, Program],
    lines: Mapping[str, str],
    sources: Mapping[str, Mapping[str, Any]],
    on: Sequence[str],
    off: Collection[str],
) -> list[Row]:
    """A row for each program, each source that is on, and each that is off. Pure.

    ``found``: the programs by supervisord; ``counted``: with how often each started and ended; ``lines``: the last line
    of the log of each failing one; ``sources``: by name, as /health has them.
    """
    by_name = {one["name"]: one for one in found}
    names = dict.fromkeys([*on, "exporter", *by_name, *(name for name in sources if name not in off)])
    made = []
    for name in names:
        program, source = by_name.get(name), sources.get(name)
        state = "no program" if program is None else program["statename"].lower()
        age = None if source is None else source.get("age_seconds")
        wrong = _program_wrong(program, lines.get(name, ""), needed=name in on or name == "exporter")
        counts = counted.get(name)
        if not wrong and counts and counts.recent_ends >= MANY_ENDS:
            wrong = f"it has {ends_text(counts.recent_ends)}; see {_log(program)}"
        if not wrong and (name in on or source):
            wrong = _source_wrong(source, _log(program))
        running = program is not None and state in ("running", "starting")
        since = ago(program["now"] - program["start"]) if program is not None and running else ""
        made.append(
            Row(
                name,
                state,
                since,
                str(counts.starts) if counts else "",
                "" if age is None else f"{ago(age)} ago",
                wrong,
            )
        )
    return [*made, *(Row(name, "off") for name in off if name not in by_name)]


def _log(program: Mapping[str, Any] | None) -> str:
    return "its log" if program is None else os.path.normpath(program["stdout_logfile"])


def _program_wrong(program: Mapping[str, Any] | None, line: str, *, needed: bool) -> str:
    if program is None:
        return "it has no program; fogmetrics reload creates it" if needed else ""
    why = f"; its log ends with: {line}" if line else ""
    state = program["statename"]
    if state == "FATAL":
        remedy = "correct the cause, then run fogmetrics reload"
        return f"supervisord has given it up; {remedy}{why or '; ' + program['spawnerr']}"
    if state == "BACKOFF":
        return f"it fails, and is started again{why or '; ' + program['spawnerr']}"
    if state == "EXITED":
        return f"it has ended with status {program['exitstatus']}{why}"
    return "" if state in ("RUNNING", "STARTING") else f"it is {state.lower()}"


def _source_wrong(source: Mapping[str, Any] | None, log: str) -> str:
    if source is None:
        return "it has no ring yet"
    if error := source.get("error"):
        return str(error)
    if source["status"] == "stale":
        return "it is stale: no new frame for too long"
    if source["status"] == "empty":
        return "it has no frame yet"
    return f"its last collection failed; see {log}" if source["up"] is False else ""


def table(found: Sequence[Row]) -> list[str]:
    """The rows as lines, in columns; coloured on a terminal."""
    widths = [max(len(row[i]) for row in (TITLES, *found)) for i in range(len(TITLES) - 1)]
    lines = []
    for row in (TITLES, *found):
        *cells, wrong = (cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True))
        if row is not TITLES:
            cells[1] = painted(cells[1], _COLOURS.get(row.state, RED), sys.stdout)
            wrong = painted(wrong, RED, sys.stdout) if wrong else ""
        lines.append("  ".join([*cells, wrong]).rstrip())
    return lines


def _changed(path: Path, config: Config, sources: Sequence[MetricSource]) -> str:
    """A sentence if the programs were written for another configuration or version than there is now; else empty."""
    written = directory.run_directory(path) / programs.FILE
    conf = directory.read_conf(path)
    if written.exists() and written.read_text() == programs.programs(path, conf, config, sources):
        return ""
    return f"The configuration or the version has changed since the programs started: fogmetrics reload {path}"
