"""A real HAProxy before two web servers of which one fails, and the traffic that a test sends through it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx

from tests import http_client
from tests.programs import find_program, free_port, wait_until
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
        self._process = subprocess.Popen(
            [program, "-db", "-f", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._stack.callback(self._end)
        wait_until(self._listens, 20, "HAProxy")
        return self

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _listens(self) -> bool:
        try:
            self.request(1)
        except httpx.TransportError:
            return False
        return True

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
