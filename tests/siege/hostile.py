"""A target that answers each question as it is told to: well, badly, slowly, for ever, or not at all.

A **script** is a generator: of the bytes that the server says, of the seconds (a float) for which it then says nothing,
of RESET, which tears the connection down. It is given the number of the question, counted over the whole server, so
that no two answers need be equal: a sample that comes twice was invented.

Each connection has a thread of its own and is closed when its script ends. Of HTTP the question is the path, with or
without what follows a "?"; of a stats socket its line.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

RESET: Final = None
FOREVER: Final = 3600.0

Step = bytes | float | None
Script = Callable[[int], Iterator[Step]]

_QUESTION_BYTES = 65_536
_DRAIN_SECONDS = 5.0


class HostileServer:
    """On a port of 127.0.0.1, or on ``unix_path``. ``scripts`` may be changed while it runs; ``asked`` counts."""

    def __init__(self, scripts: dict[str, Script], unix_path: Path | None = None) -> None:
        self.scripts = scripts
        self.asked: Counter[str] = Counter()
        self.connections = 0
        self._numbers = itertools.count(1_000_000)  # far from what any other number of a check is
        self._over = threading.Event()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        if unix_path is not None:
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(unix_path))
            self.url = f"unix://{unix_path}"
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._listener.listen(64)

    def __enter__(self) -> HostileServer:
        self._start(self._accept)
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        for one in (self._listener, *list(self._open)):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _start(self, run: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=run, args=arguments, daemon=True)
        self._threads = [one for one in self._threads if one.is_alive()] + [thread]
        thread.start()

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.add(connection)
            self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        try:
            with connection, contextlib.suppress(OSError):
                self._answer(connection, _question(connection))
        finally:
            self._open.discard(connection)

    def _answer(self, connection: socket.socket, path: str) -> None:
        self.asked[path] += 1
        script = self.scripts.get(path) or self.scripts.get(path.partition("?")[0])
        for step in script(next(self._numbers)) if script else ():
            if step is RESET:
                # Closed with a linger of 0 s: the peer is told RST.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                return
            if isinstance(step, float):
                if _pause(connection, self._over, step):
                    return
            else:
                connection.sendall(step)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(_DRAIN_SECONDS)
        while connection.recv(_QUESTION_BYTES):
            pass


def _question(connection: socket.socket) -> str:
    """The path of an HTTP request, read with its body, or the line that a stats socket is told."""
    said = b""
    while more := connection.recv(_QUESTION_BYTES):
        said += more
        if b" HTTP/1.1\r\n" not in said:
            if said.endswith(b"\n"):
                break
            continue
        head, separator, body = said.partition(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        if separator and len(body) >= int(length or 0):
            return said.split()[1].decode()
    return said.decode("latin-1").strip()


def _pause(connection: socket.socket, over: threading.Event, seconds: float) -> bool:
    """Wait; True as soon as the peer hangs up or the check ends."""
    connection.settimeout(min(seconds, 0.5))
    while not over.is_set():
        try:
            if not connection.recv(_QUESTION_BYTES):
                return True
        except TimeoutError:
            if seconds <= 0.5:
                connection.settimeout(None)
                return False
    return True


# ---- scripts that fit every target ---------------------------------------------------------------------------


def http(body: bytes, *headers: str, status: str = "200 OK", length: int | str | None = None) -> bytes:
    """A whole HTTP answer; ``length`` lies about the body's."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body) if length is None else length}", "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


def says(*steps: Step) -> Script:
    return lambda _: iter(steps)


def silent(_: int) -> Iterator[Step]:
    """Accepts, reads the question, and says nothing."""
    yield FOREVER


def drips(said: bytes, seconds: float = 0.01) -> Script:
    """Byte by byte: no single read is ever late."""
    return lambda _: (step for byte in said for step in (bytes([byte]), seconds))


def endless(begin: bytes, block: bytes) -> Script:
    """``begin``, then ``block`` for as long as anybody reads."""
    return lambda _: itertools.chain([begin], itertools.repeat(block))


def gibibyte(begin: bytes, block: bytes = b" " * 2**20) -> Script:
    """``begin``, then 1 GiB."""
    return lambda _: itertools.chain([begin], itertools.repeat(block, 2**30 // len(block)))


def chunks(pieces: Iterator[bytes] | list[bytes]) -> bytes:
    """A whole HTTP answer of these chunks."""
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in pieces) + b"0\r\n\r\n"
