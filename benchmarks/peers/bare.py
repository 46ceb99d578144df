"""The minimal cost of an answer: a server of constant bytes.

Either by a route of Starlette on uvicorn, with the exporter's event loop and parser but without its limits, or by the
event loop alone, which parses nothing, so that the kernel takes most of the time.
``python -m benchmarks.peers.bare starlette|loop PORT FILE`` serves the file's bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, cast

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks.harness import ROOT
from tests.programs import Program, free_port, listens, running


@contextlib.contextmanager
def bare(kind: Literal["starlette", "loop"], directory: Path, body: bytes) -> Iterator[tuple[Program, int]]:
    """The server, and the port at which it answers ``/metrics``."""
    port, path = free_port(), directory / f"{kind}.body"
    path.write_bytes(body)
    command = [sys.executable, "-m", __name__, kind, str(port), str(path)]
    with running(command, directory / f"{kind}.log", cwd=ROOT) as program:
        program.wait_until(lambda: listens(port), 20, f"the bare {kind} listening")
        yield program, port


def starlette(port: int, body: bytes) -> None:
    async def answer(request: Request) -> Response:
        return Response(body, media_type="text/plain")

    app = Starlette(routes=[Route("/metrics", answer)])
    uvicorn.run(
        app, host="127.0.0.1", port=port, loop="uvloop", http="h11", ws="none", lifespan="off",
        access_log=False, server_header=False, log_level="error",
    )  # fmt: skip


def loop(port: int, body: bytes) -> None:
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    class Answers(asyncio.Protocol):
        """Treats every piece of input as a complete request, as our client sends them."""

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self._transport = cast(asyncio.Transport, transport)  # which that of uvloop doesn't call itself

        def data_received(self, data: bytes) -> None:
            self._transport.write(answer)

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", port)
        await server.serve_forever()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    {"starlette": starlette, "loop": loop}[sys.argv[1]](int(sys.argv[2]), Path(sys.argv[3]).read_bytes())
