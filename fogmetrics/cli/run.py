"""``fogmetrics run``: check the configuration and the host, then become the daemon's supervisord.

Exit status: 78 for a wrong configuration, 75 for an obstacle on the host, else supervisord's.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fogmetrics import config as configuration
from fogmetrics.cli import check, directory, programs
from fogmetrics.config import ENV_CONFIG
from fogmetrics.exit import exit_status


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fogmetrics run", description="Start the daemon in the foreground.")
    directory.add_arguments(parser)
    options = parser.parse_args(arguments)
    given = ["--config", options.config] if options.config else []

    config = directory.config_file(options.directory, options.config)

    def prepare() -> int:
        directory.check_is_one(options.directory, options.config)
        if not (status := check.main([str(options.directory), *given])):
            programs.write(options.directory, configuration.load(config))
        return status

    if status := exit_status("fogmetrics", prepare):
        return status
    environ = dict(os.environ)
    if config:
        environ[ENV_CONFIG] = str(config.resolve())
    supervisord = Path(sys.executable).parent / "supervisord"
    conf = options.directory.resolve() / directory.SUPERVISORD_CONF
    sys.stdout.flush()
    os.chdir(conf.parent)
    os.execve(supervisord, [supervisord, "-n", "-c", conf], environ)  # noqa: S606 - a program of this environment
    raise AssertionError("execve returns only by an exception")
