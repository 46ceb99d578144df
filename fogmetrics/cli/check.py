"""``python -m fogmetrics.cli.check DIRECTORY``: check the configuration and the host before the daemon starts.

supervisord starts five processes at once and retries each, so one mistake in the configuration would be dozens of
messages in five logs. This prints one sentence on the terminal. If all is well, it prints where to look.

Exit status: 0 if all is well, 78 for a wrong configuration, 75 for an obstacle on the host.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import re
import socket
import sys
from collections.abc import Iterable
from pathlib import Path

from collector import registry
from collector.frame.rules import Rules
from collector.metrics import OPTIONAL, OWN
from collector.source import MetricSource
from exporter.http import address
from exporter.http.web_config import web_file
from exporter.settings import windows_ns
from fogmetrics import config as configuration
from fogmetrics.config import Config
from fogmetrics.exit import exit_status
from shm.errors import FogmetricsError
from shm.files import DIRECTORY, check_name, lock_path, ring_path
from shm.owners import group_number
from shm.ring import disk_copy

# sun_path of unix(7), less the final NUL; supervisord binds a name with ".PID" appended before it renames it.
_MOST_SOCKET_PATH = 107 - 8


class InTheWay(FogmetricsError):
    """Something outside the configuration keeps the daemon from running."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fogmetrics.cli.check", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path, help="the directory of supervisord.conf")
    parser.add_argument(
        "--config-only", action="store_true", help="check only the configuration, as before a start elsewhere"
    )
    parser.add_argument("--config", help="the configuration file (else $FOGMETRICS_CONFIG, else ./fogmetrics.toml)")
    options = parser.parse_args(arguments)

    def body() -> int:
        config = configuration.load(options.config)
        sources = check_configuration(config)
        for note in notes(config, sources, options.directory):
            print(f"fogmetrics: note: {note}", file=sys.stderr)
        if options.config_only:
            return 0
        check_run_directory(options.directory)
        check_shared_memory()
        check_rings(config)
        check_port(config)
        print(where_to_look(config, options.directory))
        return 0

    return exit_status("fogmetrics", body)


def check_configuration(config: Config) -> list[MetricSource]:
    """Build the sources of the configuration. Raises ConfigurationError for anything that a process would refuse."""
    check_name(f"{config.where('shm')} namespace", config.shm.namespace)
    group_number(config.shm.group, config.where("shm"))
    config.table_owners()
    if config.shm.snapshot_directory is not None:
        disk_copy.check_directory(config.shm.snapshot_directory, config.where("shm"))
    windows_ns(config)
    web_file(config)
    address.listeners(config)
    sources = []
    for name in registry.source_names(config):
        registry.times(name, config)
        registry.capacity(name, config)
        source = registry.build(name, config)
        Rules.of(config).check((*source.metrics, *OWN, *OPTIONAL))
        sources.append(source)
    return sources


def notes(config: Config, sources: Iterable[MetricSource], directory: Path) -> list[str]:
    """Settings that are valid but have no effect: the sources' own ``notes``, and sources without a program.

    Without a readable supervisord.conf in ``directory``, programs are not checked.
    """
    found = [f"{config.file}: {note}" for source in sources for note in getattr(source, "notes", ())]
    found += web.current().notes if (web := web_file(config)) else ()
    try:
        programs = [directory / "supervisord.conf", *sorted((directory / "conf.d").glob("*.conf"))]
        text = "\n".join(one.read_text() for one in programs)
    except (OSError, ValueError):
        return found
    for name in config.source:
        if not re.search(rf"^[ \t]*command\b.*-m collector {re.escape(name)}(?![\w-])", text, re.MULTILINE):
            found.append(
                f"{config.where(f'source.{name}')} has no program in {directory / 'supervisord.conf'} or conf.d, so it "
                "is not collected; docs/configuration.md says how one is made"
            )
    return found


def supervisor_socket(directory: Path) -> Path:
    """The socket of the supervisord that runs with that directory's supervisord.conf."""
    return directory.resolve() / "run" / "supervisor.sock"


def listens(path: Path) -> bool:
    """Whether a process listens on that Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def check_run_directory(directory: Path) -> None:
    """Make run/ and run/log. Raises InTheWay if they can't be written, or a supervisord uses them already."""
    run = directory.resolve() / "run"
    try:
        (run / "log").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InTheWay(
            f"{error.filename} can't be made: {error.strerror}; supervisord keeps its socket and logs there: "
            "clone to a directory that this user can write to"
        ) from None
    if not os.access(run, os.W_OK) or not os.access(run / "log", os.W_OK):
        raise InTheWay(f"this user can't write to {run}; give it to the user that runs the daemon: chown -R")
    path = supervisor_socket(directory)
    if len(os.fsencode(path)) > _MOST_SOCKET_PATH:
        raise InTheWay(
            f"{path} has {len(os.fsencode(path))} bytes, more than the {_MOST_SOCKET_PATH} that the path of a Unix "
            "socket may have here; clone to a directory with a shorter path"
        )
    if listens(path):
        raise InTheWay(
            f"it runs already: a supervisord listens on {path}; look at it with supervisorctl status, stop it with "
            "supervisorctl shutdown, or clone to another directory for a second one"
        )


def check_shared_memory() -> None:
    """Raises InTheWay if shared memory is missing or can't be written."""
    if not os.access(DIRECTORY, os.W_OK):
        raise InTheWay(f"{DIRECTORY} is missing or can't be written; mount it: mount -t tmpfs tmpfs {DIRECTORY}")


def check_rings(config: Config) -> None:
    """Raises InTheWay if a ring's files belong to another user, so that its collector could not write them."""
    namespace = config.shm.namespace
    for name in registry.source_names(config):
        for path in (lock_path(namespace, name), ring_path(namespace, name)):
            try:
                owner = path.lstat().st_uid
            except OSError:
                continue
            if owner != os.geteuid():
                raise InTheWay(
                    f"{path} belongs to {_user(owner)}, and this is {_user(os.geteuid())}: its collector could not "
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


def is_secure(config: Config) -> bool:
    """Whether the exporter serves https."""
    web = web_file(config)
    return web is not None and web.current().tls is not None


def where_to_look(config: Config, directory: Path) -> str:
    """The addresses, logs and commands to look at once the daemon runs."""
    first, secure = address.listeners(config)[0], is_secure(config)
    host, port = first.host, first.port
    base = address.url("localhost" if host in ("0.0.0.0", "::", "127.0.0.1") else host, port, secure)
    if first.path:
        base, port = f"--unix-socket {first.path} http{'s' * secure}://localhost", -1  # for curl
    if port == 0:
        base = base.removesuffix("0") + "PORT"
    control = Path(sys.executable).parent / "supervisorctl"
    return (
        f"fogmetrics starts; look at"
        f"{', with the PORT that run/log/exporter.log names' if port == 0 else ''}\n"
        f"  {base}/metrics               the latest samples\n"
        f"  {base}/metrics/aggregated    avg, min, max, sum, p50, p95, p99 over the last {config.exporter.window}\n"
        f"  {base}/stats   {base}/health\n"
        f"  {directory.resolve() / 'run' / 'log'}    a log per process\n"
        f"  {control} -c {directory.resolve() / 'supervisord.conf'} status\n"
        f"Ctrl-C stops it; the rings keep their history."
    )


if __name__ == "__main__":
    sys.exit(main())
