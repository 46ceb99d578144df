"""Servers that speak HTTP on a Unix socket, as the providers' tests need them: each question is kept."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.collector import hostile


@dataclass
class Served:
    """``answer`` gives the HTTP answer to a request target; ``questions`` are the heads that came."""

    url: str
    questions: list[str] = field(default_factory=list)

    @property
    def targets(self) -> list[str]:
        return [one.split(" ", 2)[1] for one in self.questions]


@contextlib.contextmanager
def served(path: Path, answer: Callable[[str], bytes]) -> Iterator[Served]:
    found = Served(f"unix://{path}")

    def behave(connection: socket.socket, over: threading.Event) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            part = connection.recv(65_536)
            if not part:
                return
            head += part
        found.questions.append(head.decode())
        connection.sendall(answer(found.targets[-1]))

    with hostile.server(path, behave):
        yield found
