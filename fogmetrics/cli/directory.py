"""The directory of a daemon, which holds its fogmetrics.toml and its supervisord.conf.

Commands act on the daemon of one directory, whatever the working directory is: they read that directory's
configuration, and find supervisord by that directory's supervisord.conf.
"""

from __future__ import annotations

import argparse
import configparser
import os
import sys
from pathlib import Path
from typing import Final

from fogmetrics import config as configuration
from fogmetrics.config import DEFAULT_FILE, ENV_CONFIG, Config
from shm.errors import ConfigurationError

SUPERVISORD_CONF: Final = "supervisord.conf"
# Sections of supervisord.conf with the options of the programs, which supervisord itself does not read.
COLLECTOR, EXPORTER = "fogmetrics:collector", "fogmetrics:exporter"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of a command that acts on a daemon: DIR and --config."""
    parser.add_argument(
        "directory", type=Path, nargs="?", default=Path(), metavar="DIR",
        help="the daemon's directory, with its supervisord.conf (default: the working directory)",
    )  # fmt: skip
    parser.add_argument("--config", help=f"the configuration file (else ${ENV_CONFIG}, else DIR/{DEFAULT_FILE})")


def config_file(directory: Path, given: str | None) -> Path | None:
    """The configuration file of the daemon; None if it has none, so that all keys have their defaults.

    Raises ConfigurationError if the directory is missing, or can't be searched by this user.
    """
    try:
        os.stat(f"{directory}/.")  # fails for a file, too
        found = os.path.lexists(directory / DEFAULT_FILE)
    except OSError as error:
        raise ConfigurationError(
            f"{directory} can't be a daemon's directory: {error.strerror}; name the directory that has its "
            f"{SUPERVISORD_CONF}"
        ) from None
    if named := given or os.environ.get(ENV_CONFIG):
        return Path(named)
    return directory / DEFAULT_FILE if found else None


def load(directory: Path, given: str | None) -> Config:
    """The configuration of the daemon. Raises ConfigurationError."""
    return configuration.load(config_file(directory, given), directory=directory)


def check_is_one(directory: Path, given: str | None) -> None:
    """Raises ConfigurationError if the directory is not a daemon's, since a command would act on another daemon."""
    if config_file(directory, given) is None and not os.path.exists(directory / SUPERVISORD_CONF):
        raise ConfigurationError(
            f"{directory.resolve()} is not the directory of a daemon: it has neither {DEFAULT_FILE} nor "
            f"{SUPERVISORD_CONF}; name the directory that has them"
        )


def read_conf(directory: Path) -> configparser.RawConfigParser:
    """Read supervisord.conf as supervisord does. Raises ConfigurationError if that fails."""
    path = directory / SUPERVISORD_CONF
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    try:
        parser.read_string(path.read_text(), str(path))
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ConfigurationError(f"{path} can't be read: {error}") from None
    return parser


def supervisor_socket(directory: Path) -> Path:
    """The socket of the supervisord that runs with that directory's supervisord.conf."""
    return _path(directory, "unix_http_server", "file", "%(here)s/run/supervisor.sock")


def stop_command(directory: Path) -> str:
    """The command that stops the daemon of a directory."""
    return f"{Path(sys.executable).parent / 'supervisorctl'} -c {directory.resolve() / SUPERVISORD_CONF} shutdown"


def run_directory(directory: Path) -> Path:
    """Where supervisord has its socket, and ``fogmetrics run`` writes the programs."""
    return supervisor_socket(directory).parent


def log_directory(directory: Path) -> Path:
    """Where the logs of the programs are."""
    return _path(directory, "supervisord", "childlogdir", "%(here)s/run/log")


def user_of(directory: Path, section: str) -> str:
    """The user as which the programs with the options of ``section`` run; empty: supervisord's."""
    return _option(directory, section, "user", "")


def _path(directory: Path, section: str, option: str, default: str) -> Path:
    """A path that supervisord.conf names; the default without one."""
    return Path(_option(directory, section, option, default).replace("%(here)s", str(directory.resolve())))


def _option(directory: Path, section: str, option: str, default: str) -> str:
    if not os.path.exists(directory / SUPERVISORD_CONF):  # Path.exists raises where the directory can't be searched
        return default
    return read_conf(directory).get(section, option, fallback=default)
