"""``fogmetrics init DIR``: write the files of a daemon's directory: its configuration and its supervisord.conf.

With ``--system`` they are those of a service that root starts, with users of their own for the collectors and for the
exporter. An existing file is never overwritten.
"""

from __future__ import annotations

import argparse
import os
from importlib import resources
from pathlib import Path

from fogmetrics.cli.check import InTheWay
from fogmetrics.cli.directory import SUPERVISORD_CONF
from fogmetrics.config import DEFAULT_FILE
from fogmetrics.exit import exit_status


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fogmetrics init", description="Write the files of a daemon's directory.")
    parser.add_argument("directory", type=Path, metavar="DIR", help="the directory, which is made if it is missing")
    parser.add_argument(
        "--system", action="store_true",
        help="for a service that root starts: collectors as user fogmetrics, the exporter as fogmetrics-exporter",
    )  # fmt: skip
    options = parser.parse_args(arguments)

    def body() -> int:
        write(options.directory, options.system)
        print(
            f"{options.directory.resolve()} is ready: edit {DEFAULT_FILE} there, then\n"
            f"  fogmetrics check {options.directory}    find mistakes\n"
            f"  fogmetrics run {options.directory}      start the daemon in the foreground"
        )
        return 0

    return exit_status("fogmetrics", body)


def write(directory: Path, system: bool = False) -> None:
    """Write the files. Raises InTheWay if one exists already, or can't be written."""
    files = resources.files("fogmetrics.cli") / "files"
    names = (DEFAULT_FILE, SUPERVISORD_CONF)
    if there := [name for name in names if os.path.lexists(directory / name)]:
        raise InTheWay(f"{directory.resolve()} has {' and '.join(there)} already; give another directory")
    try:
        (directory / "conf.d").mkdir(parents=True, exist_ok=True)
        for name in names:
            stem, ending = name.split(".")
            text = (files / (f"{stem}.system.{ending}" if system else name)).read_text()
            (directory / name).write_text(text)
            if system:  # the programs' users read them, whatever the umask of root
                (directory / name).chmod(0o644)
        if system:
            directory.chmod(0o755)
    except OSError as error:
        raise InTheWay(f"{error.filename} can't be written: {error.strerror}") from None
