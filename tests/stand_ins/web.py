"""A web server of one answer, for tests that need something behind a proxy.

with WebServer(status=500) as server: ...               # in this process
python -m tests.stand_ins.web --port 8080 --delay-ms 20     # as a program
"""

from __future__ import annotations

import argparse
import contextlib
import socketserver
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class _Handler(BaseHTTPRequestHandler):
    server: WebServer

    def do_GET(self) -> None:
        with self.server.lock:
            self.server.requests += 1
        time.sleep(self.server.delay_ms / 1000)
        body = f"{self.server.status}\n".encode()
        with contextlib.suppress(ConnectionError):  # who asked may have waited for less than that, and be gone
            self.send_response(self.server.status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's word
        return None


class WebServer(ThreadingHTTPServer):
    """Answers each GET with ``status`` after ``delay_ms``; ``requests`` counts them. Port 0 takes a free one."""

    request_queue_size = 128

    def __init__(self, port: int = 0, status: int = 200, delay_ms: float = 0.0) -> None:
        self.status = status
        self.delay_ms = delay_ms
        self.requests = 0
        self.lock = threading.Lock()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        super().__init__(("127.0.0.1", port), _Handler)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would ask DNS for our name
        self.server_name, self.server_port = "localhost", self.socket.getsockname()[1]

    @property
    def port(self) -> int:
        return self.server_port

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(description="A web server of one answer.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--status", type=int, default=200)
    parser.add_argument("--delay-ms", type=float, default=0.0)
    options = parser.parse_args()
    server = WebServer(options.port, options.status, options.delay_ms)
    with contextlib.suppress(KeyboardInterrupt):
        server.serve_forever()


if __name__ == "__main__":
    main()
