"""``python -m exporter``: serve the rings of this host to Prometheus until SIGTERM or SIGINT.

Exit status: 0 after such a signal, 78 for a configuration error (EX_CONFIG), 75 when the port is taken (EX_TEMPFAIL),
so that supervisord tries again.
"""

from __future__ import annotations

import os

from exporter.window.incremental import machine

# The exporter does no linear algebra: each further OpenBLAS thread would only cost a stack and a workspace.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NPY_DISABLE_CPU_FEATURES", machine.features_left_out())

import argparse
import dataclasses
import gc
import logging
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from starlette.types import ASGIApp

from collector import registry
from exporter.app import Exporter
from exporter.http import address
from exporter.http.server import Server, fitting
from exporter.http.tls import Tls
from exporter.reload import Read, Reload, mistakes
from exporter.settings import ExporterConfig
from fogmetrics import config as configuration
from fogmetrics import log as logs
from fogmetrics.config import Config
from fogmetrics.exit import exit_status
from fogmetrics.parent import Parent
from shm.errors import ConfigurationError

log = logging.getLogger("exporter")


def main(arguments: list[str] | None = None) -> int:
    parent = Parent()  # before any slow step: the end of a parent that ends earlier would go unnoticed
    parser = argparse.ArgumentParser(prog="python -m exporter", description="Serve the rings of this host.")
    parser.add_argument("--config", help="the configuration file (else $FOGMETRICS_CONFIG, else ./fogmetrics.toml)")
    path: str | None = parser.parse_args(arguments).config

    def body() -> int:
        # Kept until the server can reread the configuration: one that comes after it was read is not lost.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
        try:
            config = configuration.load(path)
            logs.set_up(config.log.level, config.log.format)
            machine.keep_freed_memory()
            os.nice(config.exporter.nice)
            with address.listening(config) as sockets:
                serve(config, sockets, parent, lambda: read(path))
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return 0

    return exit_status("exporter", body)


def sources(config: Config) -> tuple[list[str], list[str]]:
    """The sources that the configuration has on, and those that it has off."""
    return registry.on(config), registry.off(config)


def read(path: str | None) -> Read:
    """The configuration as it is now. Raises ConfigurationError with all its mistakes."""
    config, found = configuration.examine(path)
    if found := [*found, *mistakes(config)]:
        raise ConfigurationError(*dict.fromkeys(found))
    return Read(config, *sources(config))


def limits(config: ExporterConfig) -> ExporterConfig:
    """The table with as many connections as the limit on open files allows."""
    return dataclasses.replace(config, max_connections=fitting(config.max_connections))


def with_access(config: ExporterConfig, exporter: Exporter) -> tuple[ASGIApp, Callable[[], Tls] | None]:
    """The application behind the web configuration, and what returns the next handshake's TLS; None without TLS."""
    if not config.web_config:
        return exporter.app, None
    from exporter.http.access import Access  # imported only where they are used: they take 1.7 MiB
    from exporter.http.web_config import WebFile

    web = WebFile(Path(config.web_config))
    for note in web.current().notes:
        log.warning(note)
    return Access(exporter.app, web, exporter.refused), web.tls if web.current().tls else None


def serve(config: Config, sockets: list[socket.socket], parent: Parent, reread: Callable[[], Read]) -> None:
    """Serve on the sockets until SIGTERM or SIGINT, or until ``parent`` ends. ``reread``: reads the configuration."""
    on, off = sources(config)
    exporter = Exporter(config, on, off)
    app, tls = with_access(config.exporter, exporter)
    server = Server(app, limits(config.exporter), parent, exporter.refused, tls)
    web_config, log_table = config.exporter.web_config, config.log

    def rest(found: Read) -> dict[str, bool]:
        nonlocal web_config, log_table
        assert isinstance(found.config, Config)
        server.limit(limits(found.config.exporter))
        changed = {}
        if found.config.log != log_table:
            log_table, changed["[log]"] = found.config.log, True
            logs.set_up(log_table.level, log_table.format)
        if found.config.exporter.web_config != web_config:
            app, now = with_access(found.config.exporter, exporter)
            fits = changed["[exporter] web_config"] = (now is None) is (tls is None)
            if fits:
                web_config = found.config.exporter.web_config
                server.replace_app(app, now)
        return changed

    exporter.reload = Reload(exporter, config, reread, rest, off)
    server.on_hangup = exporter.reload_quietly
    # The event loop handles both while it runs.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: server.stop())
    for one in sockets:
        name = one.getsockname()  # of a Unix socket its path
        where = f"unix:{name}" if isinstance(name, str) else address.url(name[0], name[1], tls is not None)
        log.info("serving", extra={"url": where, "namespace": config.shm.namespace})
    # Imported objects live until the end: exempt them from garbage collection, so that fewer pages are written to.
    gc.collect()
    gc.freeze()
    try:
        server.run(sockets)
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the process ends already; the loop restored the default handlers
        exporter.close()
        log.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
