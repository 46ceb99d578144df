"""Servers of HTTP that keep what they were asked, for tests of the programs that ask."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.collector import hostile


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Served:
    """The requests that came to the server at ``url``, and over how many connections."""

    url: str
    requests: list[Request] = field(default_factory=list)
    connections: int = 0

    @property
    def targets(self) -> list[str]:
        return [one.target for one in self.requests]


@contextlib.contextmanager
def served(answer: Callable[[str], bytes], path: Path | None = None) -> Iterator[Served]:
    """A server on a port of 127.0.0.1, or a Unix socket at ``path``; ``answer`` gives the HTTP answer to a target."""
    listener = socket.create_server(("127.0.0.1", 0)) if path is None else hostile.listening(path)
    found = Served(f"unix://{path}" if path else f"http://127.0.0.1:{listener.getsockname()[1]}")

    def behave(connection: socket.socket, over: threading.Event) -> None:
        found.connections += 1
        with connection.makefile("rb") as reader:
            while line := reader.readline().decode():
                headers = http.client.parse_headers(reader)
                body = reader.read(int(headers.get("Content-Length", 0)))
                found.requests.append(Request(line.split()[0], line.split()[1], dict(headers), body))
                connection.sendall(answer(found.targets[-1]))

    with hostile.accepting(listener, behave):
        yield found
