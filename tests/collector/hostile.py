"""Servers that misbehave, each on a Unix socket of its own."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

Behaviour = Callable[[socket.socket, threading.Event], None]


@contextlib.contextmanager
def accepting(listener: socket.socket, behaviour: Behaviour) -> Iterator[None]:
    """Every connection of ``listener`` is given to ``behaviour``, with the event that ends the test."""
    over = threading.Event()
    sockets = [listener]

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            sockets[1:] = [connection]
            with connection, contextlib.suppress(OSError):
                if not over.is_set():
                    behaviour(connection, over)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        thread.join()
        listener.close()


@contextlib.contextmanager
def server(path: Path, behaviour: Behaviour) -> Iterator[str]:
    """A server at a Unix socket that behaves so; its url."""
    with accepting(listening(path), behaviour):
        yield f"unix://{path}"


def listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    return listener


def silent(connection: socket.socket, over: threading.Event) -> None:
    """Accepts, and never answers."""
    over.wait()


def says(answer: bytes) -> Behaviour:
    """Says ``answer``, hangs up, and leaves none of the question unread: the asker can always put it whole."""

    def behave(connection: socket.socket, over: threading.Event) -> None:
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):  # a client that keeps its connection sees the end of it at its next request
            pass

    return behave


def endless(begin: bytes, block: bytes) -> Behaviour:
    """Says ``begin``, then ``block`` for as long as anybody listens."""

    def behave(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65_536)
        connection.sendall(begin)
        while not over.is_set():
            connection.sendall(block)

    return behave


def drips(begin: bytes, drop: bytes = b" ") -> Behaviour:
    """Says ``begin``, then a drop now and then: often enough that no single read is ever late."""

    def behave(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(65_536)
        connection.sendall(begin)
        while not over.wait(0.02):
            connection.sendall(drop)

    return behave


def http(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    """An HTTP answer; ``length`` lies about the body's."""
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body) if length is None else length}\r\n\r\n".encode() + body


@contextlib.contextmanager
def mute(host: str, port: int) -> Iterator[None]:
    """Connections to ``port`` are neither made nor refused, as behind a firewall: the queue of who listens is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield
