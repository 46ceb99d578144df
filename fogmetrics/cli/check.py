"""``fogmetrics check``: check the configuration and the host before the daemon starts.

supervisord starts all processes at once and retries each, so one mistake in the configuration would be dozens of
messages in their logs. This prints a sentence for each mistake on the terminal, all at once. Without a mistake, it
prints which sources are on and off, and where to look.

Exit status: 0 if all is well, 78 for a wrong configuration, 75 for an obstacle on the host.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import io
import os
import pwd
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from collector import registry
from collector.frame.rules import Rules
from collector.metrics import ALL, OPTIONAL, OWN, TEXTFILE
from collector.notes import source_notes
from collector.settings import CollectorConfig
from collector.source import MetricSource
from exporter.http import address
from exporter.http.web_config import web_file
from fogmetrics import config as configuration
from fogmetrics.cli.directory import (
    COLLECTOR,
    EXPORTER,
    SUPERVISORD_CONF,
    add_arguments,
    config_file,
    log_directory,
    run_directory,
    supervisor_socket,
    user_of,
)
from fogmetrics.config import Config
from fogmetrics.durations import written
from fogmetrics.exit import exit_status
from fogmetrics.settings.metric_names import metric_table, table_fits
from fogmetrics.settings.reader import close_to, mistakes_of
from fogmetrics.settings.tables import ShmConfig
from shm.errors import ConfigurationError, FogmetricsError
from shm.files import DIRECTORY, building_path, lock_path, ring_path
from shm.owners import group_number, user_number
from shm.ring import disk_copy

# sun_path of unix(7), less the final NUL; supervisord binds a name with ".PID" appended before it renames it.
_MOST_SOCKET_PATH = 107 - 8


class InTheWay(FogmetricsError):
    """Something outside the configuration keeps the daemon from running."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fogmetrics check", description="Check the configuration and this host.")
    add_arguments(parser)
    parser.add_argument(
        "--config-only", action="store_true", help="check only the configuration, as before a start elsewhere"
    )
    options = parser.parse_args(arguments)

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # paths that are not UTF-8 are printed as they are

    def body() -> int:
        config, sources = examine(options.directory, options.config)
        for note in notes(config, sources, options.directory):
            print(f"fogmetrics: note: {note}", file=sys.stderr)
        if not options.config_only:
            check_run_directory(options.directory)
            check_shared_memory()
            check_rings(config, check_users(options.directory))
            check_port(config)
        print(f"fogmetrics: {valid(config, sources)}")
        if not options.config_only:
            print(where_to_look(config, options.directory))
        return 0

    return exit_status("fogmetrics", body)


def examine(directory: Path, given: str | None) -> tuple[Config, list[MetricSource]]:
    """The configuration of a daemon and its sources. Raises ConfigurationError with all that any process would refuse.

    ``given``: the file that --config names.
    """
    config, mistakes = configuration.examine(config_file(directory, given), directory=directory)
    mistakes += mistakes_of(group_number, config.shm.group, config.where("shm"))
    mistakes += mistakes_of(config.ring_owner)
    mistakes += mistakes_of(config.table_owners)
    mistakes += mistakes_of(check_listeners, config)
    if config.shm.snapshot_directory is not None:
        mistakes += mistakes_of(disk_copy.check_directory, config.shm.snapshot_directory, config.where("shm"))
    mistakes += mistakes_of(web_file, config, directory)
    metrics, sources = [*OWN, *OPTIONAL, *ALL], list[MetricSource]()
    for name in registry.source_names(config):
        if name in config.source and config.source[name].class_ and registry.why_off(name, config):
            continue  # its class may be gone
        try:
            source = registry.build(name, config)
        except ConfigurationError as error:
            mistakes += error.args
            continue
        metrics += source.metrics
        sources.append(source)
    mistakes += filter(None, map(Rules.of(config).flaw, metrics))
    if mistakes:
        raise ConfigurationError(*dict.fromkeys(mistakes))
    return config, sources


def check_listeners(config: Config) -> None:
    """Raises ConfigurationError for an address that is none, or a host name that nobody knows."""
    for one in address.listeners(config):
        if not one.path:
            address.resolve(config, one)


def valid(config: Config, sources: Iterable[MetricSource]) -> str:
    """The line that says that the configuration is valid, and which sources are on and off."""
    on = [one.name for one in sources if not registry.why_source_off(one, config)]
    off = [name for name in registry.source_names(config) if name not in on]
    if config.path is None:
        file = f"there is no {configuration.DEFAULT_FILE}, so every key has its default, which"
    else:
        file = str(config.path)
    return f"{file} is valid; on: {', '.join(on) or 'no source'}; off: {', '.join(off) or 'none'}"


def notes(config: Config, sources: Iterable[MetricSource], directory: Path) -> list[str]:
    """Settings that are valid but have no effect, of sources and of shared tables."""
    sources = list(sources)
    found = [f"{config.file}: {note}" for source in sources for note in source_notes(source, config)]
    found += web.current().notes if (web := web_file(config, directory)) else ()
    return [*found, *shared_notes(config, sources)]


def shared_notes(config: Config, sources: Iterable[MetricSource]) -> Iterator[str]:
    """Keys of [shm], [collector], [exporter] and [metric.NAME] without effect."""
    if config.shm.snapshot_seconds != ShmConfig().snapshot_seconds and not config.shm.snapshot_dir:
        yield f"{config.where('shm')} snapshot_seconds has no effect without snapshot_dir; set it, or remove the key"
    most, of_metric = config.collector.max_series, config.collector.max_series_per_metric
    if of_metric > most and of_metric != CollectorConfig().max_series_per_metric:
        yield (
            f"{config.where('collector')} max_series_per_metric is {of_metric}, more than a source may have, whose "
            f"max_series is {most}; raise that, or lower it"
        )
    history = max(registry.capacity(one.name, config) * registry.times(one.name, config)[0] for one in sources)
    if config.exporter.window > history:
        yield (
            f"{config.where('exporter')} window is {written(config.exporter.window)}, but no ring holds more than "
            f"{written(history)}; lower it, or raise [shm] capacity"
        )
    metrics = [*ALL, *TEXTFILE, *(metric for source in sources for metric in source.metrics)]
    known = {name: None for one in metrics for name in (one.name, one.family)}
    for name in config.metric:
        if not any(table_fits(name, one) for one in metrics) and (close := close_to(name, known)):
            yield (
                f"{config.file}: {metric_table(name)} is the table of no metric of the built-in sources; did you mean "
                f"{close!r}?"
            )


def listens(path: Path) -> bool:
    """Whether a process listens on that Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def check_run_directory(directory: Path) -> None:
    """Make the directories of the socket and of the logs.

    Raises InTheWay if they can't be written, or if a supervisord uses them already.
    """
    run, logs = run_directory(directory), log_directory(directory)
    for needed in (run, logs):
        try:
            needed.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InTheWay(
                f"{error.filename} can't be made: {error.strerror}; supervisord keeps its socket and logs there: "
                "use a directory that this user can write to"
            ) from None
        if not os.access(needed, os.W_OK):
            raise InTheWay(f"this user can't write to {needed}; give it to the user that runs the daemon: chown -R")
    path = supervisor_socket(directory)
    if len(os.fsencode(path)) > _MOST_SOCKET_PATH:
        raise InTheWay(
            f"{path} has {len(os.fsencode(path))} bytes, more than the {_MOST_SOCKET_PATH} that the path of a Unix "
            "socket may have here; use a directory with a shorter path"
        )
    if listens(path):
        raise InTheWay(
            f"it runs already: a supervisord listens on {path}; look at it with fogmetrics status, stop it with "
            "supervisorctl shutdown, or use another directory for a second one"
        )


def check_supervisord(directory: Path) -> None:
    """Raises InTheWay if supervisord refuses supervisord.conf and conf.d, or could not find a program in them.

    It replaces %(here)s by the directory's name and then looks for variables and quotes in the result, so the name may
    be the reason.
    """
    file = directory.resolve() / "supervisord.conf"
    if not file.exists():
        return
    if (shown := os.fsencode(file.parent).decode(errors="backslashreplace")) != str(file.parent):
        raise InTheWay(
            f"{shown} is not UTF-8, and supervisord's own interface fails on such a path; use a directory whose "
            "path is UTF-8"
        )
    from supervisor.options import ServerOptions

    options = ServerOptions()
    options.here = str(file.parent)
    odd = sorted(set('%"\\*?[]') & set(options.here))
    remedy = f"use a directory without {' '.join(odd)} in its path" if odd else "correct it, or the file of conf.d"
    try:
        options.read_config(str(file))
    except (ValueError, configparser.Error) as error:
        raise InTheWay(f"supervisord can't read {file}: {' '.join(str(error).split())}; {remedy}") from None
    for group in options.configroot.supervisord.process_group_configs:
        for program in group.process_configs:
            try:
                path = shlex.split(program.command)[0]
            except (ValueError, IndexError) as error:
                raise InTheWay(
                    f"[program:{program.name}] of {file} has the command {program.command!r}: {error}; {remedy}"
                ) from None
            if path.startswith("/") and not (os.path.isfile(path) and os.access(path, os.X_OK)):
                raise InTheWay(
                    f"[program:{program.name}] of {file} starts {path}, which is missing or can't be run; {remedy}"
                )
    if any((file.parent / "conf.d").glob("*.conf")) and any("No file matches" in one for one in options.parse_warnings):
        raise InTheWay(f"supervisord finds no file in {file.parent / 'conf.d'}, though there are some; {remedy}")


def check_shared_memory() -> None:
    """Raises InTheWay if shared memory is missing or can't be written."""
    if not os.access(DIRECTORY, os.W_OK):
        raise InTheWay(f"{DIRECTORY} is missing or can't be written; mount it: mount -t tmpfs tmpfs {DIRECTORY}")


def check_users(directory: Path) -> int | None:
    """The user id of the collectors; None if it is this process's. Raises InTheWay if a program's user can't run it."""
    collectors = None
    for section, package in ((COLLECTOR, "collector"), (EXPORTER, "exporter")):
        if not (name := user_of(directory, section)):
            continue
        user = pwd.getpwuid(user_number(name, f"{directory / SUPERVISORD_CONF}: [{section}]", "user"))
        if package == "collector":
            collectors = user.pw_uid
        try:
            subprocess.run(  # noqa: S603 - this interpreter
                [sys.executable, "-P", "-c", f"import {package}"],
                user=user.pw_uid, group=user.pw_gid, extra_groups=os.getgrouplist(user.pw_name, user.pw_gid),
                cwd="/", check=True, capture_output=True, timeout=60,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise InTheWay(
                f"user {name} can't run {sys.executable} with the package {package}: {error}; install fogmetrics where "
                "that user can read it, with an interpreter that it can run"
            ) from None
    return collectors


def check_rings(config: Config, user: int | None = None) -> None:
    """Raises InTheWay if a ring's files belong to another user than the collectors', so that they could not write them.

    ``user``: that of the collectors; None: this process's.
    """
    user = os.geteuid() if user is None else user
    namespace = config.shm.namespace
    for name in registry.source_names(config):
        for path in (lock_path(namespace, name), ring_path(namespace, name), building_path(namespace, name)):
            try:
                owner = path.lstat().st_uid
            except OSError:
                continue
            if owner != user:
                raise InTheWay(
                    f"{path} belongs to {_user(owner)}, and this is {_user(user)}: its collector could not "
                    "write; run as that user, remove the files of this namespace as that user, or set another: "
                    f"{config.where('shm')} namespace"
                )


def _user(number: int) -> str:
    with contextlib.suppress(KeyError):
        return f"user {pwd.getpwuid(number).pw_name}"
    return f"user {number}"


def check_port(config: Config) -> None:
    """Raises AddressTaken or ConfigurationError if the exporter could not listen."""
    with address.listening(config):
        pass


def is_secure(config: Config, directory: Path) -> bool:
    """Whether the exporter serves https."""
    web = web_file(config, directory)
    return web is not None and web.current().tls is not None


def where_to_look(config: Config, directory: Path) -> str:
    """The addresses, logs and commands to look at once the daemon runs."""
    window = written(config.exporter.window)
    first, secure = address.listeners(config)[0], is_secure(config, directory)
    host, port = first.host, first.port
    base = address.url("localhost" if host in ("0.0.0.0", "::", "127.0.0.1") else host, port, secure)
    if first.path:
        base, port = f"--unix-socket {first.path} http{'s' * secure}://localhost", -1  # for curl
    if port == 0:
        base = base.removesuffix("0") + "PORT"
    return (
        f"fogmetrics starts; look at"
        f"{', with the PORT that run/log/exporter.log names' if port == 0 else ''}\n"
        f"  {base}/metrics               the latest samples\n"
        f"  {base}/metrics/aggregated    avg, min, max, sum, p50, p95, p99 over the last {window}\n"
        f"  {base}/stats   {base}/health\n"
        f"  {log_directory(directory)}    a log per process\n"
        f"  {Path(sys.executable).parent / 'fogmetrics'} status {directory.resolve()}\n"
        f"Ctrl-C stops it; the rings keep their history."
    )


if __name__ == "__main__":
    sys.exit(main())
