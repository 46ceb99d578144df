"""``python -m exporter``: serve the rings of this host to Prometheus until told to stop.

Exit status: 0 after a signal to stop, 78 for a configuration that must be mended (EX_CONFIG), 75 when the port is
taken (EX_TEMPFAIL), so that supervisord tries again.
"""

from __future__ import annotations

import os

from exporter import simd

# One thread is all that numpy is asked for; each more would cost a stack and a workspace for nothing.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("NPY_DISABLE_CPU_FEATURES", simd.left_out())

import argparse
import asyncio
import errno
import gc
import logging
import signal
import socket
import sys

import uvicorn

from exporter import memory
from exporter.places import Places, fitting
from exporter.quiet import QuietServer, Seldom
from exporter.server import Exporter
from shm import address
from shm import config as configuration
from shm import log as logs
from shm.command import exit_status
from shm.config import Config
from shm.errors import FogmetricsError
from shm.parent import Parent

log = logging.getLogger("exporter")

_LET_GO_SECONDS = 15.0  # one stat per ring; a segment that a restart replaced is kept so long at most


class AddressTaken(FogmetricsError):
    """The port can't be listened on."""


def main(arguments: list[str] | None = None) -> int:
    parent = Parent()  # before anything that takes time: one that dies meanwhile would never be missed
    parser = argparse.ArgumentParser(prog="python -m exporter", description="Serve the rings of this host.")
    parser.add_argument("--config", help="the configuration file (else $FOGMETRICS_CONFIG, else ./fogmetrics.toml)")
    options = parser.parse_args(arguments)

    def body() -> int:
        config = configuration.load(options.config)
        logs.set_up(config.log.level, config.log.format)
        memory.keep_freed()
        os.nice(config.exporter.nice)
        size, backlog = fitting(config.exporter.max_connections)
        with listen(config, backlog) as server_socket:
            serve(config, server_socket, parent, Places(size, backlog))
        return 0

    return exit_status("exporter", body)


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
    protocol = _protocol(config, places)
    logging.getLogger("uvicorn.error").addFilter(Seldom())
    server = QuietServer(
        uvicorn.Config(
            exporter.app,
            loop="uvloop",
            http=protocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=config.exporter.keep_alive_seconds,  # type: ignore[arg-type]  # any number will do
            limit_concurrency=places.size if protocol == "auto" else None,
            backlog=places.spare,  # it calls listen() once more
            timeout_graceful_shutdown=2,
        ),
        parent,
        # Its own protocol leaves the Date header to the server.
        look_seconds=1.0 if protocol == "auto" else None,
    )

    def stop(signal_number: int, frame: object) -> None:
        server.should_exit = True

    # The server handles both while it serves. Afterwards it raises what it got once more, for whoever had it before:
    # by default that would end the process there, with a status that tells of a crash.
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    host, port = server_socket.getsockname()[:2]
    log.info("serving", extra={"url": address.url(host, port), "namespace": config.shm.namespace})
    # What was imported stays: no collection need look at it again, and fewer pages are written to.
    gc.collect()
    gc.freeze()

    async def run() -> None:
        letting_go = asyncio.create_task(_let_go(exporter))
        await server.serve(sockets=[server_socket])
        letting_go.cancel()

    try:
        with asyncio.Runner(loop_factory=_new_loop) as runner:
            runner.run(run())
    finally:
        exporter.close()
        log.info("stopped")


def _new_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:  # not built for this platform: asyncio's own loop serves as well
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _protocol(config: Config, places: Places) -> type[asyncio.Protocol] | str:
    """The HTTP protocol with our limits; where this release of uvicorn is too different for them, its own."""
    try:
        from exporter.limits import limited_protocol
    except ImportError as error:
        log.warning("no limits on connections", extra={"error": str(error)})
        return "auto"
    return limited_protocol(config.exporter, places)


async def _let_go(exporter: Exporter) -> None:
    while True:
        await asyncio.sleep(_LET_GO_SECONDS)
        await exporter.let_go()


if __name__ == "__main__":
    sys.exit(main())
