"""The page of prometheus_client's multiprocess mode, from a server that does nothing else.

``python -m benchmarks.peers.multiprocess_page PORT``, with the files in $PROMETHEUS_MULTIPROC_DIR. Connections are
kept, which the library's own server does not.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from benchmarks.harness import ROOT
from tests.programs import Program, free_port, listens, running


class Page(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    registry = CollectorRegistry()
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body in one call

    def do_GET(self) -> None:
        body = generate_latest(self.registry)
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name of the library
        pass


@contextlib.contextmanager
def multiprocess_page(directory: str, log: Path) -> Iterator[tuple[Program, int]]:
    """The server of the files in ``directory``, and its port."""
    port = free_port()
    command = [sys.executable, "-m", __name__, str(port)]
    with running(command, log, env={"PROMETHEUS_MULTIPROC_DIR": directory}, cwd=ROOT) as program:
        program.wait_until(lambda: listens(port), 20, "the page of prometheus_client")
        yield program, port


if __name__ == "__main__":
    MultiProcessCollector(Page.registry)  # type: ignore[no-untyped-call]
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Page).serve_forever()
