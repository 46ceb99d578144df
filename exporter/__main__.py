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
from pathlib import Path

from starlette.types import ASGIApp

from collector import registry
from exporter.app import Exporter
from exporter.http import address
from exporter.http.server import Server, fitting
from fogmetrics import config as configuration
from fogmetrics import log as logs
from fogmetrics.config import Config
from fogmetrics.exit import exit_status
from fogmetrics.parent import Parent

log = logging.getLogger("exporter")


def main(arguments: list[str] | None = None) -> int:
    parent = Parent()  # before any slow step: the end of a parent that ends earlier would go unnoticed
    parser = argparse.ArgumentParser(prog="python -m exporter", description="Serve the rings of this host.")
    parser.add_argument("--config", help="the configuration file (else $FOGMETRICS_CONFIG, else ./fogmetrics.toml)")
    path: str | None = parser.parse_args(arguments).config

    def body() -> int:
        config = configuration.load(path)
        logs.set_up(config.log.level, config.log.format)
        machine.keep_freed_memory()
        os.nice(config.exporter.nice)
        with address.listening(config) as sockets:
            serve(config, sockets, parent)
        return 0

    return exit_status("exporter", body)


def serve(config: Config, sockets: list[socket.socket], parent: Parent) -> None:
    """Serve on the sockets until SIGTERM or SIGINT, or until ``parent`` ends."""
    off = registry.off(config)
    on = [name for name in registry.source_names(config) if name not in off]
    exporter = Exporter(config, on, off)
    app: ASGIApp = exporter.app
    tls = None
    if config.exporter.web_config:
        from exporter.http.access import Access  # imported only where they are used: they take 1.7 MiB
        from exporter.http.web_config import WebFile

        web = WebFile(Path(config.exporter.web_config))
        for note in web.current().notes:
            log.warning(note)
        app = Access(exporter.app, web, exporter.refused)
        tls = web.tls if web.current().tls else None
    limits = dataclasses.replace(config.exporter, max_connections=fitting(config.exporter.max_connections))
    server = Server(app, limits, parent, exporter.refused, tls)
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
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # the process ends already; the loop restored the default handlers
        exporter.close()
        log.info("stopped")


if __name__ == "__main__":
    sys.exit(main())
