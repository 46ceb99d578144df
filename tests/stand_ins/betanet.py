"""A STAND-IN for Betanet: answers its three endpoints, and misbehaves on request.

In tests:    with BetanetStandIn() as server: ... server.url ... server.mode = "half" ... server.stop()
By itself:   python -m tests.stand_ins.betanet --port 9000      (its packets then count up with time)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any

METRICS, NODES, NETWORK = PATHS = ("/api/v1/metrics", "/api/v1/nodes/status", "/api/v1/network/stats")
_SLOW_SECONDS = 60.0
_GATHER_SECONDS = 10.0  # for the other two requests to come


def still() -> dict[str, dict[str, Any]]:
    """Betanet's answers with numbers that do not move."""
    return {
        METRICS: {"packets_processed": 5000, "packets_dropped": 10},
        NODES: {"active_nodes": 5, "inactive_nodes": 2, "total_nodes": 7},
        NETWORK: {"bytes_transmitted": 10, "bytes_received": 20, "avg_latency_ms": 45.0, "peak_throughput": 30},
    }


def moving(seconds: float) -> dict[str, dict[str, Any]]:
    """The answers ``seconds`` after the start: 500 packets a second, and the rest swings about."""
    swing = math.sin(seconds / 20)
    packets, nodes = int(seconds * 500), 5 + round(2 * swing)
    return {
        METRICS: {"packets_processed": packets, "packets_dropped": packets // 500},
        NODES: {"active_nodes": nodes, "inactive_nodes": 7 - nodes, "total_nodes": 7},
        NETWORK: {
            "bytes_transmitted": packets * 900,
            "bytes_received": packets * 800,
            "avg_latency_ms": round(45 + 20 * swing, 3),
            "peak_throughput": 450_000,
        },
    }


class BetanetStandIn:
    """Listens on 127.0.0.1 from ``start`` to ``stop``, always on the same port; 0 takes a free one.

    ``mode`` is how all endpoints behave (a key of MODES), ``modes`` how single paths do instead; both may be set
    while it runs. ``requests`` lists the paths that were asked for, in the order of their coming.
    """

    def __init__(self, port: int = 0, answers: Callable[[], Mapping[str, Any]] = still) -> None:
        self.port = port
        self.answers = answers
        self.modes: dict[str, str] = {}
        self.requests: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.stopping = threading.Event()
        self.gathered = threading.Barrier(len(PATHS))
        self.mode = "up"
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        assert self._server is None, "already started"
        self.stopping.clear()
        self.gathered.reset()
        self._server = _Server(("127.0.0.1", self.port), self)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Close the port and end every answer that is still being given; ``start`` opens the same port again."""
        server, thread, self._server, self._thread = self._server, self._thread, None, None
        if server is None or thread is None:
            return
        self.stopping.set()
        self.gathered.abort()
        server.shutdown()
        thread.join()
        for connection in list(server.connections):
            with contextlib.suppress(OSError):  # it has ended
                connection.shutdown(socket.SHUT_RD)  # no more requests; an answer under way is given
        server.server_close()  # joins the threads of the answers

    def __enter__(self) -> BetanetStandIn:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class _Server(socketserver.ThreadingTCPServer):
    # Not http.server's: that looks up the host's name at each start.
    allow_reuse_address = True
    daemon_threads = False  # so that server_close joins them, and no socket outlives a test
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], stand_in: BetanetStandIn) -> None:
        self.stand_in = stand_in
        self.connections: set[socket.socket] = set()
        super().__init__(address, _Answer)


class _Answer(BaseHTTPRequestHandler):
    """The requests of one connection, which is closed after 5 idle seconds, as uvicorn and actix do by default."""

    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = 5
    wbufsize = -1  # head and body are one packet, as from most servers

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        super().finish()

    def do_GET(self) -> None:
        stand_in = self.server.stand_in
        stand_in.requests.append(self.path)
        stand_in.headers.append({name.lower(): value for name, value in self.headers.items()})
        # A client that hangs up has seen enough: it is what most modes are about.
        with contextlib.suppress(ConnectionError):
            MODES[stand_in.modes.get(self.path, stand_in.mode)](self)

    def answer(self) -> bytes:
        """The right answer's body; empty where there is none."""
        answers = self.server.stand_in.answers()
        return json.dumps(answers[self.path]).encode() if self.path in answers else b""

    def up(self) -> None:
        body = self.answer()
        self.reply(200 if body else 404, body)

    def reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def slow(self) -> None:
        self.server.stand_in.stopping.wait(_SLOW_SECONDS)
        self.up()

    def half(self) -> None:
        if self.path == METRICS:
            self.up()
        else:
            self.failing()

    def failing(self) -> None:
        self.reply(500, b"{}")

    def together(self) -> None:
        """Answers when all three endpoints have been asked; 500 if that does not happen."""
        try:
            self.server.stand_in.gathered.wait(_GATHER_SECONDS)
        except threading.BrokenBarrierError:
            self.failing()
        else:
            self.up()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the overridden method's word
        return


# All ways to behave, by name.
MODES: Mapping[str, Callable[[_Answer], None]] = {
    "up": _Answer.up,
    "slow": _Answer.slow,
    "half": _Answer.half,
    "failing": _Answer.failing,
    "together": _Answer.together,
}


def main() -> None:
    """Play Betanet until SIGTERM, which ends the process, or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m tests.stand_ins.betanet", description="A stand-in for Betanet.")
    parser.add_argument("--port", type=int, default=9000, help="port of 127.0.0.1; 0 takes a free one")
    arguments = parser.parse_args()
    began = time.monotonic()
    with (
        contextlib.suppress(KeyboardInterrupt),
        BetanetStandIn(arguments.port, lambda: moving(time.monotonic() - began)) as stand_in,
    ):
        print(f"STAND-IN for Betanet (no real packets) on {stand_in.url}", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
