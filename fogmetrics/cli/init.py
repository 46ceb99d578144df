"""``fogmetrics init DIR``: write the files of a daemon's directory: its configuration and its supervisord.conf.

With ``--system`` they are those of a service that root starts, with users of their own for the collectors and for the
exporter, and its systemd unit. With ``--docker`` they are those of an image, and its Dockerfile. An existing file is
never overwritten. Betanet is turned off where it does not answer.
"""

from __future__ import annotations

import argparse
import grp
import os
import pwd
import re
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Final

from fogmetrics.cli.directory import SUPERVISORD_CONF
from fogmetrics.cli.host import InTheWay
from fogmetrics.config import DEFAULT_FILE
from fogmetrics.exit import exit_status

UNIT: Final = "fogmetrics.service"
# By kind: each file, and the template that it is written from.
FILES: Final[Mapping[str, Mapping[str, str]]] = {
    "": {DEFAULT_FILE: "fogmetrics.toml", SUPERVISORD_CONF: "supervisord.conf"},
    "system": {DEFAULT_FILE: "fogmetrics.system.toml", SUPERVISORD_CONF: "supervisord.system.conf", UNIT: UNIT},
    "docker": {
        DEFAULT_FILE: "fogmetrics.docker.toml",
        SUPERVISORD_CONF: "supervisord.conf",
        "Dockerfile": "Dockerfile",
    },
}
BETANET_URL: Final = "http://localhost:9000"
_BETANET_SECONDS: Final = 1.0
_BETANET_IS_THERE: Final = "# enabled = false             # on a host without Betanet"
_NO_BETANET: Final = "enabled = false               # no Betanet answered at {} when this was written"
_NAME: Final = re.compile(r"[a-z_][a-z0-9_-]{0,31}")  # as useradd takes them
_PATH: Final = re.compile(r"(/[\w.+@-]+)+")  # needs quotes neither in a unit nor in supervisord.conf


@dataclass(frozen=True)
class Service:
    """The users and directories of a service."""

    user: str = "fogmetrics"
    exporter_user: str = "fogmetrics-exporter"
    run_dir: str = "/run/fogmetrics"
    log_dir: str = "/var/log/fogmetrics"
    state_dir: str = "/var/lib/fogmetrics"

    def check(self, directory: Path) -> None:
        """Raises ValueError for names and paths that can't be those of a service."""
        _check_path(str(directory), "DIR")
        for option in ("user", "exporter_user"):
            if not _NAME.fullmatch(name := getattr(self, option)):
                raise ValueError(
                    f"{_option(option)} is {name!r}; give a user's name of lower-case letters, digits, - and _"
                )
        if self.user == self.exporter_user:
            raise ValueError(
                f"--user and --exporter-user are both {self.user!r}; give two users, so that the exporter, which "
                "listens, can't write the rings"
            )
        for option in ("run_dir", "log_dir", "state_dir"):
            _check_path(getattr(self, option), _option(option))
        if not self.run_dir.startswith("/run/"):
            raise ValueError(
                f"--run-dir is {self.run_dir!r}; give a directory below /run, which systemd makes at each start"
            )

    def values(self, directory: Path, command: str) -> dict[str, str]:
        """What the templates name."""
        logs = self.log_dir.removeprefix("/var/log/")
        return {
            **vars(self),
            "group": _group(self.user),
            "directory": str(directory),
            "command": command,
            "run_directory": self.run_dir.removeprefix("/run/"),
            "log_directory": f"ReadWritePaths={logs}" if logs == self.log_dir else f"LogsDirectory={logs}",
        }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fogmetrics init", description="Write the files of a daemon's directory.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="the directory, which is made if it is missing")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument(
        "--system", dest="kind", action="store_const", const="system", default="",
        help="for a service that root starts, with two users and a systemd unit",
    )  # fmt: skip
    kinds.add_argument(
        "--docker", dest="kind", action="store_const", const="docker", help="for an image, with its Dockerfile"
    )
    defaults = vars(Service())
    service = parser.add_argument_group("of a service, with --system")
    for option, metavar, what in (
        ("user", "NAME", "user of the collectors, which owns the rings"),
        ("exporter_user", "NAME", "user of the exporter"),
        ("run_dir", "PATH", "supervisord's socket"),
        ("log_dir", "PATH", "logs"),
        ("state_dir", "PATH", "snapshots of the rings"),
    ):
        service.add_argument(_option(option), metavar=metavar, help=f"{what} (default: {defaults[option]})")
    options = parser.parse_args(arguments)
    given = {name: getattr(options, name) for name in defaults if getattr(options, name) is not None}
    given |= {name: os.path.normpath(value) for name, value in given.items() if name.endswith("_dir")}
    if given and options.kind != "system":
        parser.error(f"{_option(next(iter(given)))} is for a service; add --system")

    made = Service(**given)
    if options.kind == "system":
        try:
            made.check(options.directory.resolve())
        except ValueError as error:
            parser.error(str(error))

    def body() -> int:
        write(options.directory, options.kind, made)
        print(next_steps(options.directory.resolve(), options.kind, made))
        return 0

    return exit_status("fogmetrics", body)


def write(directory: Path, kind: str = "", service: Service | None = None) -> None:
    """Write the files. Raises InTheWay if one exists already, or can't be written."""
    if there := [name for name in FILES[kind] if os.path.lexists(directory / name)]:
        raise InTheWay(f"{directory.resolve()} has {' and '.join(there)} already; give another directory")
    values = {"betanet": _BETANET_IS_THERE}
    if kind == "system":
        service = service or Service()
        values |= service.values(directory.resolve(), _command())
    if kind != "docker" and not betanet_answers(BETANET_URL):
        values["betanet"] = _NO_BETANET.format(BETANET_URL)
    texts = rendered(kind, values)
    try:
        (directory / "conf.d").mkdir(parents=True, exist_ok=True)
        for name, text in texts.items():
            (directory / name).write_text(text)
            if kind:  # other users read them, whatever the umask
                (directory / name).chmod(0o644)
        if kind:
            directory.chmod(0o755)
    except OSError as error:
        raise InTheWay(f"{error.filename} can't be written: {error.strerror}") from None


def rendered(kind: str, values: Mapping[str, str]) -> dict[str, str]:
    """The text of each file of that kind."""
    files = resources.files("fogmetrics.cli") / "files"
    return {name: Template((files / template).read_text()).substitute(values) for name, template in FILES[kind].items()}


def betanet_answers(url: str) -> bool:
    """Whether Betanet answers at that URL, with a value that it should have."""
    from collector.sources.betanet.client import BetanetClient

    client = BetanetClient(url, _BETANET_SECONDS)
    try:
        return any(one.values for one in client.read_all())
    finally:
        client.close()


def next_steps(directory: Path, kind: str, service: Service) -> str:
    """What a user does next, as a line and commands."""
    steps = [f"{directory} is ready: edit {DEFAULT_FILE} there, then"]
    if kind == "docker":
        steps += [f"cp fogmetrics-*.whl {directory}", f"docker build -t fogmetrics {directory}"]
    elif kind == "system":
        user, exporter, command = service.user, service.exporter_user, _command()
        if not _exists(user):
            steps.append(f"useradd --system --user-group --no-create-home {user}")
        if not _exists(exporter):
            steps.append(f"useradd --system --no-create-home --groups {_group(user)} {exporter}")
        steps += [
            f"install -d -m 700 -o {user} -g {_group(user)} {service.state_dir}",
            f"{command} check {directory}",
            f"systemctl enable --now {directory / UNIT}",
        ]
    else:
        command = str(Path(sys.executable).parent / "fogmetrics")
        steps += [
            f"{command} check {directory}    find mistakes",
            f"{command} run {directory}      start the daemon in the foreground",
        ]
    return "\n  ".join(steps)


def _command() -> str:
    """The console script of this installation. Raises InTheWay if it has none."""
    path = Path(sysconfig.get_path("scripts"), "fogmetrics")
    if not path.exists():
        raise InTheWay(f"there is no {path}, which the unit would start; install fogmetrics into an environment first")
    if not _PATH.fullmatch(str(path)):
        raise InTheWay(f"{path} would need quotes in the unit; install fogmetrics into /opt/fogmetrics, say")
    return str(path)


def _check_path(path: str, what: str) -> None:
    """Raises ValueError for a path that is not absolute, or would need quotes."""
    if not _PATH.fullmatch(path):
        raise ValueError(
            f"{what} is {path!r}; give an absolute path of letters, digits and . _ + @ -, which a unit takes without "
            "quotes"
        )


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _group(user: str) -> str:
    """The user's own group; of a user that does not exist yet, the group that useradd --user-group makes."""
    return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name if _exists(user) else user
