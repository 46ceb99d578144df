"""A web server of one answer, for what needs something behind a proxy: ``with WebServer(status=500) as server:``."""

from __future__ import annotations

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
