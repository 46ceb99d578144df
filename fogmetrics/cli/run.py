"""``fogmetrics run``: check the configuration and the host, then become the daemon's supervisord.

Exit status: 78 for a wrong configuration, 75 for an obstacle on the host, else supervisord's.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from exporter.http import address
from exporter.http.web_config import web_file
from fogmetrics.cli import check, directory, host, programs
from fogmetrics.cli.start import report_in_background
from fogmetrics.config import ENV_CONFIG, Config
from fogmetrics.durations import written
from fogmetrics.exit import exit_status


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fogmetrics run", description="Start the daemon in the foreground.")
    directory.add_arguments(parser)
    options = parser.parse_args(arguments)

    def prepare() -> int:
        directory.check_is_one(options.directory, options.config)
        host.check_not_running(options.directory)
        loaded, sources = check.check_all(options.directory, options.config)
        programs.write(options.directory, loaded, sources)
        host.check_supervisord(options.directory)  # with the programs
        print(f"fogmetrics: {check.summary(loaded, sources)}\n{where_to_look(loaded, options.directory)}")
        return 0

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


def is_secure(config: Config, directory: Path) -> bool:
    """Whether the exporter serves https."""
    web = web_file(config, directory)
    return web is not None and web.current().tls is not None


def where_to_look(config: Config, path: Path) -> str:
    """The addresses, logs and commands to look at once the daemon runs."""
    window = written(config.exporter.window)
    first, secure = address.listeners(config)[0], is_secure(config, path)
    name, port = first.host, first.port
    base = address.url("localhost" if name in ("0.0.0.0", "::", "127.0.0.1") else name, port, secure)
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
        f"  {directory.log_directory(path)}    a log per process\n"
        f"  {Path(sys.executable).parent / 'fogmetrics'} status {path.resolve()}\n"
        f"Ctrl-C stops it; the rings keep their history."
    )
