"""``fogmetrics run``: check the configuration and the host, then become the daemon's supervisord.

Exit status: 78 for a wrong configuration, 75 for an obstacle on the host, else supervisord's.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys

from collector import registry
from fogmetrics.cli import check, directory, programs
from fogmetrics.cli.check import InTheWay
from fogmetrics.cli.start import report_in_background
from fogmetrics.config import ENV_CONFIG, Config
from fogmetrics.exit import exit_status
from shm.files import lock_path
from shm.ring.lock import record_lock


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fogmetrics run", description="Start the daemon in the foreground.")
    directory.add_arguments(parser)
    options = parser.parse_args(arguments)
    given = ["--config", options.config] if options.config else []

    def prepare() -> int:
        directory.check_is_one(options.directory, options.config)
        if not (status := check.main([str(options.directory), *given])):
            loaded = directory.load(options.directory, options.config)
            check_writers(loaded)
            programs.write(options.directory, loaded)
            check.check_supervisord(options.directory)
        return status

    if status := exit_status("fogmetrics", prepare):
        return status
    environ = dict(os.environ)
    if config := directory.config_file(options.directory, options.config):
        environ[ENV_CONFIG] = str(config.resolve())
    conf = options.directory.resolve() / directory.SUPERVISORD_CONF
    sys.stdout.flush()
    report_in_background(conf.parent)
    os.chdir(conf.parent)
    # Its own log has what it would print; the report is for people.
    supervisord = [sys.executable, "-P", "-m", "supervisor.supervisord", "--nodaemon", "--silent", "-c", str(conf)]
    os.execve(sys.executable, supervisord, environ)  # noqa: S606 - this interpreter
    raise AssertionError("execve returns only by an exception")


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
