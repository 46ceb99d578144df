"""The least that an answer costs with our server: Starlette and uvicorn, a route, and bytes that are there already.

``python -m benchmarks.peers.bare PORT FILE`` serves the file's bytes, with the event loop and the HTTP parser in C that
the exporter has, too.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.harness import ROOT
from tests.programs import Program, free_port, listens, running


@contextlib.contextmanager
def bare(directory: Path, body: bytes) -> Iterator[tuple[Program, int]]:
    """The server, and the port at which it answers ``/metrics``."""
    port, path = free_port(), directory / "body"
    path.write_bytes(body)
    command = [sys.executable, "-m", __name__, str(port), str(path)]
    with running(command, directory / "bare.log", cwd=ROOT) as program:
        program.wait_until(lambda: listens(port), 20, "the bare server listening")
        yield program, port


def main(port: int, path: Path) -> None:
    body = path.read_bytes()

    async def answer(request: Request) -> Response:
        return Response(body, media_type="text/plain")

    app = Starlette(routes=[Route("/metrics", answer)])
    uvicorn.run(
        app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", ws="none", lifespan="off",
        access_log=False, server_header=False, log_level="error",
    )  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
