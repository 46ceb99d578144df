"""Checks of the host before a start: what would keep the daemon from running, each as a sentence with its remedy."""

from __future__ import annotations

import configparser
import contextlib
import os
import pwd
import shlex
import socket
import subprocess
import sys
from pathlib import Path

from collector import registry
from exporter.http import address
from fogmetrics.cli import programs
from fogmetrics.cli.directory import (
    COLLECTOR,
    EXPORTER,
    SUPERVISORD_CONF,
    log_directory,
    run_directory,
    stop_command,
    supervisor_socket,
    user_of,
)
from fogmetrics.config import Config
from shm.errors import FogmetricsError
from shm.files import DIRECTORY, building_path, lock_path, ring_path
from shm.owners import user_number
from shm.ring.lock import record_lock

# sun_path of unix(7), less the final NUL; supervisord binds a name with ".PID" appended before it renames it.
_MOST_SOCKET_PATH = 107 - 8


class InTheWay(FogmetricsError):
    """Something outside the configuration keeps the daemon from running."""


def check(directory: Path, config: Config) -> None:
    """Run all checks, without those of what the daemon of that directory has itself if it runs.

    Raises InTheWay, or ConfigurationError for an address that the exporter can't listen on.
    """
    check_run_directory(directory)
    check_supervisord(directory)
    check_shared_memory()
    check_rings(config, check_users(directory))
    if not listens(supervisor_socket(directory)):
        check_writers(config)
        check_port(config)


def check_not_running(directory: Path) -> None:
    """Raises InTheWay if the daemon of that directory runs."""
    if listens(path := supervisor_socket(directory)):
        raise InTheWay(
            f"it runs already: a supervisord listens on {path}; see fogmetrics status {directory}, stop it with "
            f"{stop_command(directory)}, or use another directory for a second one"
        )


def listens(path: Path) -> bool:
    """Whether a process listens on that Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def check_run_directory(directory: Path) -> None:
    """Make the directories of the socket and of the logs.

    Raises InTheWay if they can't be written.
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


def check_supervisord(directory: Path) -> None:
    """Raises InTheWay if supervisord refuses supervisord.conf and conf.d, or could not find a program in them.

    It replaces %(here)s by the directory's name and then looks for variables and quotes in the result, so the name may
    be the reason.
    """
    file = directory.resolve() / SUPERVISORD_CONF
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
    for folder, pattern in ((run_directory(directory), programs.FILE), (file.parent / "conf.d", "*.conf")):
        found = any(folder.glob(pattern))
        if found and any(one.endswith(f'/{pattern}"') for one in options.parse_warnings):  # "No file matches …"
            raise InTheWay(f"supervisord does not find {folder / pattern}, which is there; {remedy}")


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


def check_writers(config: Config) -> None:
    """Raises InTheWay if a ring has a writer: the collector of another daemon with this namespace."""
    for name in registry.source_names(config):
        with contextlib.suppress(OSError):
            fd = os.open(lock_path(config.shm.namespace, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                pid = record_lock(fd)
            finally:
                os.close(fd)
            if pid is not None:
                raise InTheWay(
                    f"process {pid} collects {name!r} for namespace {config.shm.namespace!r} already; stop the daemon "
                    f"that it belongs to, or set another namespace: {config.where('shm')} namespace"
                )


def check_port(config: Config) -> None:
    """Raises AddressTaken or ConfigurationError if the exporter could not listen."""
    with address.listening(config):
        pass
