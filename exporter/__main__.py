"""``python -m exporter``: serve the rings of this host to Prometheus until told to stop.

Exit status: 0 after a signal to stop, 78 for a configuration that must be mended (EX_CONFIG), 75 when the port is
taken (EX_TEMPFAIL), so that supervisord tries again.
"""

from __future__ import annotations

import os

from exporter.window.incremental import machine

# One thread is all that numpy is asked for; each more would cost a stack and a workspace for nothing.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NPY_DISABLE_CPU_FEATURES", machine.features_left_out())

import argparse
import asyncio
import errno
import gc
import logging
import signal
import socket
import sys

from exporter.app import Exporter
from exporter.http import address
from exporter.http.connection import Shared
from exporter.http.places import Places, fitting
from exporter.http.server import Service
from fogmetrics import config as configuration
from fogmetrics import log as logs
from fogmetrics.config import Config
from fogmetrics.exit import exit_status
from fogmetrics.parent import Parent
from shm.errors import FogmetricsError

log = logging.getLogger("exporter")

_LET_GO_SECONDS = 15.0  # one stat per ring; a segment that a restart replaced is kept so long at most


class AddressTaken(FogmetricsError):
    """The port can't be listened on."""


def main(arguments: list[str] | None = None) -> int:
    parent = Parent()  # before anything that takes time: one that dies meanwhile would never be missed
    path = _config_path(arguments)

    def body() -> int:
        config = configuration.load(path)
        logs.set_up(config.log.level, config.log.format)
        machine.keep_freed_memory()
        os.nice(config.exporter.nice)
        size, backlog = fitting(config.exporter.max_connections)
        with listen(config, backlog) as server_socket:
            serve(config, server_socket, parent, Places(size, backlog))
        return 0

    return exit_status("exporter", body)


def _config_path(arguments: list[str] | None) -> str | None:
    parser = argparse.ArgumentParser(prog="python -m exporter", description="Serve the rings of this host.")
    parser.add_argument("--config", help="the configuration file (else $FOGMETRICS_CONFIG, else ./fogmetrics.toml)")
    found: str | None = parser.parse_args(arguments).config
    return found


def listen(config: Config, backlog: int) -> socket.socket:
    """A listening socket on the configured address. Raises AddressTaken or ConfigurationError."""
    family, kind, protocol, place = address.resolve(config)
    try:
        server_socket = socket.socket(family, kind, protocol)
    except OSError as error:
        raise address.refused(config, error) from None
    server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        server_socket.bind(place)
        server_socket.listen(backlog)
    except OSError as error:
        server_socket.close()
        if error.errno == errno.EADDRINUSE:
            port = config.exporter.port
            raise AddressTaken(
                f"port {port} of {config.exporter.listen} is taken (9200 is also Elasticsearch's); stop the program "
                f"that has it, or set another: {config.where('exporter')} port = {port + 1 if port < 65535 else 9200}"
            ) from None
        raise address.refused(config, error) from None
    return server_socket


def serve(config: Config, server_socket: socket.socket, parent: Parent, places: Places) -> None:
    """Serve on ``server_socket`` until SIGTERM or SIGINT, or until ``parent`` is gone."""
    exporter = Exporter(config)
    service = Service(Shared(exporter.answer, config.exporter, places, exporter.refused), parent)
    # The service handles both while it runs.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    host, port = server_socket.getsockname()[:2]
    log.info("serving", extra={"url": address.url(host, port), "namespace": config.shm.namespace})
    # What was imported stays: no collection need look at it again, and fewer pages are written to.
    gc.collect()
    gc.freeze()

    async def run() -> None:
        letting_go = asyncio.create_task(_let_go(exporter))
        await service.run(server_socket, places.spare)
        letting_go.cancel()

    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(run())
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # it ends already; the loop has left them at their default
        exporter.close()
        log.info("stopped")


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not built for this platform: asyncio's own loop serves as well
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


async def _let_go(exporter: Exporter) -> None:
    while True:
        await asyncio.sleep(_LET_GO_SECONDS)
        try:
            await exporter.let_go()
        except Exception as error:  # noqa: BLE001 - as where no thread can be started: the next time
            log.warning("segments not looked through", extra={"error": f"{type(error).__name__}: {error}"})


if __name__ == "__main__":
    sys.exit(main())
