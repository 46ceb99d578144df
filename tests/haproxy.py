"""A real HAProxy before two web servers of which one fails, and the traffic that a test sends through it."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

from tests import http_client
from tests.programs import find_program, free_port, listens, running
from tests.stand_ins.web import WebServer

_CONFIG = """\
global
    stats socket {socket} mode 600 level operator
defaults
    mode http
    timeout connect 2s
    timeout client 10s
    timeout server 10s
frontend front
    bind 127.0.0.1:{port}
    default_backend web
backend web
    balance roundrobin
    server good 127.0.0.1:{good} check inter 500ms
    server failing 127.0.0.1:{failing} check inter 500ms
"""


class HaproxyBefore:
    """``request(n)`` sends n requests, one after the other; half of them are answered 500."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._stack = contextlib.ExitStack()
        self.port = free_port()
        self.stats_url = f"unix://{directory / 'haproxy.sock'}"

    def __enter__(self) -> HaproxyBefore:
        program = find_program("haproxy")
        good = self._stack.enter_context(WebServer())
        failing = self._stack.enter_context(WebServer(status=500))
        config = self._directory / "haproxy.cfg"
        config.write_text(
            _CONFIG.format(
                socket=self._directory / "haproxy.sock",
                port=self.port,
                good=good.port,
                failing=failing.port,
            )
        )
        log_path = self._directory / "haproxy.log"
        started = self._stack.enter_context(running([program, "-db", "-f", config], log_path))
        started.wait_until(lambda: listens(self.port), 20, "HAProxy listening")
        return self

    def request(self, count: int) -> Mapping[int, int]:
        """How many of ``count`` requests were answered with each status."""
        answers: dict[int, int] = {}
        with http_client.client() as client:
            for _ in range(count):
                status = client.get(f"http://127.0.0.1:{self.port}/").status_code
                answers[status] = answers.get(status, 0) + 1
        return answers

    def __exit__(self, *exc: object) -> None:
        self._stack.close()
