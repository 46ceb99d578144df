"""Writes the programs of a daemon for its supervisord: one for each source that is on, and the exporter.

supervisord.conf includes the written file, programs.conf beside supervisord's socket, before conf.d/. So supervisord
knows a program for what is on and for nothing else, and a section of the same name in conf.d/ may change options of a
program. The options come from two sections of supervisord.conf that supervisord itself does not read:
[fogmetrics:collector] for the program of each source, and [fogmetrics:exporter].

The interpreter is the one that runs the command, and ``-P`` keeps the working directory out of its path: the programs
run the installed packages. Each command has a digest of the configuration that concerns it, so that supervisord sees by
itself which programs a changed configuration concerns; Python ignores it (``-X`` takes any name). The digest covers the
version, too: after an upgrade, ``fogmetrics reload`` restarts every program. The exporter's digest covers only what a
running exporter does not take over; a comment has the digest of the rest.
"""

from __future__ import annotations

import configparser
import hashlib
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from collector import registry
from collector.source import MetricSource
from exporter.reload import fixed
from fogmetrics.cli.directory import COLLECTOR, EXPORTER, SUPERVISORD_CONF, read_conf, run_directory
from fogmetrics.config import Config
from shm import VERSION
from shm.errors import ConfigurationError

FILE: Final = "programs.conf"
TAKEN_OVER: Final = "; The exporter takes over without a restart: "  # begins a line, before a digest


def write(directory: Path, config: Config, sources: Iterable[MetricSource]) -> Path:
    """Write the programs of the daemon in ``directory``; the path of the file. Raises ConfigurationError.

    ``sources``: those of the configuration; those that are off get no program.
    """
    path = run_directory(directory) / FILE
    text = programs(directory, read_conf(directory), config, sources)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace(path, text)
    return path


def replace(path: Path, text: str) -> None:
    """Write the file as a whole, so that nobody reads a part of it."""
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


def programs(
    directory: Path, conf: configparser.RawConfigParser, config: Config, sources: Iterable[MetricSource]
) -> str:
    """The text of the file, for a supervisord.conf ``conf`` in ``directory``."""
    every = (config.shm, config.applications, config.log)
    sections = []
    for name in on(config, sources):
        of_source = (*every, config.collector, config.metric, config.source.get(name))
        sections.append(_section(conf, directory, COLLECTOR, name, f"collector {name}", of_source))
    # Not every user may read the file of web_config, which turns TLS on or off: another name is a restart.
    needs_restart = (dict(fixed(config)), config.exporter.web_config)
    seen = dict.fromkeys(("stdout_events_enabled", "stderr_events_enabled"), "true")  # by fogmetrics.cli.notify
    sections.append(_section(conf, directory, EXPORTER, "exporter", "exporter", needs_restart, **seen))
    rest = _digest((config.exporter, config.log, list(config.metric), registry.off(config)))
    sections.append(f"{TAKEN_OVER}{rest}\n")
    head = "; Written by fogmetrics run and fogmetrics reload: changes to this file are lost.\n"
    return "\n".join([head, *sections])


def all_sources(config: Config) -> list[MetricSource]:
    """The sources of the configuration, without those that it turns off. Raises ConfigurationError."""
    return [registry.build(name, config) for name in registry.on(config)]


def on(config: Config, sources: Iterable[MetricSource]) -> list[str]:
    """The names of those that are on."""
    return [one.name for one in sources if not registry.why_source_off(one, config)]


def _section(
    conf: configparser.RawConfigParser,
    directory: Path,
    template: str,
    name: str,
    module: str,
    tables: Iterable[object],
    **more: str,
) -> str:
    """A section [program:NAME] with the options ``more``, then those of ``template``, which override them."""
    if not conf.has_section(template):
        raise ConfigurationError(
            f"{directory / SUPERVISORD_CONF} has no section [{template}], which has the options of the programs; "
            "fogmetrics init writes a supervisord.conf that has it"
        )
    if run_directory(directory).parent == directory.resolve():
        here = "%(here)s/.."  # of the written file; a name could have what begins a comment in such files
    else:
        here = str(directory.resolve()).replace("%", "%%")  # "%" begins an expansion
    options = {key: value.replace("%(here)s", here) for key, value in conf.items(template)}
    python = shlex.quote(sys.executable).replace("%", "%%")
    digest = _digest((VERSION, *tables))
    lines = {"command": f"{python} -P -X configuration={digest} -m {module}", **more, **options}
    return "\n".join([f"[program:{name}]", *(f"{key} = {value}" for key, value in lines.items()), ""])


def _digest(tables: Iterable[object]) -> str:
    return hashlib.sha256(repr(tuple(tables)).encode()).hexdigest()[:16]
