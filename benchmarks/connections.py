"""Memory of the exporter per connection: ``python -m benchmarks.connections``.

``max_connections`` clients make the exporter keep as much as they can: half a request, the state of a long request, or
a page that they do not read. Each kind of client has a new exporter.
"""

from __future__ import annotations

import contextlib
import socket
import time
from typing import Final

import psutil

from benchmarks.served import Rings, Scrapers
from exporter.settings import ExporterConfig
from tests.programs import exporting

_KEYS: Final = "request_seconds = 600\nkeep_alive_seconds = 600\nanswer_seconds = 600"
_LIMITS: Final = ExporterConfig()
_SERIES: Final = 20_000  # a page of 1 MiB
_RECEIVE_BYTES: Final = 4096  # of the clients' kernel
_STILL_SECONDS: Final = 2.0  # without a change in memory: all requests are read
_HEAD: Final = b" HTTP/1.1\r\nhost: 127.0.0.1\r\n"
_LONG: Final = b"x" * (_LIMITS.max_request_bytes - 200)
_UNTAKEN: Final = (b"GET /metrics" + _HEAD + b"\r\n") * 20  # more than the kernel keeps

# What each client sends, piece by piece: the next one when an answer to the last was begun.
_KINDS: Final = {
    "silent": (b"",),
    "half a request": (b"GET /" + _LONG,),
    "idle after a long query": (b"GET /?" + _LONG + _HEAD + b"\r\n",),
    "idle after a long path": (b"GET /" + _LONG + _HEAD + b"\r\n",),
    "idle after 16,000 headers": (b"GET /" + _HEAD + b"a:\r\n" * 16_000 + b"\r\n",),
    "half a request after a long path": (b"GET /" + _LONG + _HEAD + b"\r\n", b"GET /" + _LONG),
    "a page not taken": (_UNTAKEN,),
    "a page not taken, half a request behind": (_UNTAKEN, b"GET /" + _LONG),
}


def cost(namespace: str, pieces: tuple[bytes, ...]) -> float:
    """Bytes of resident memory per connection."""
    with exporting(namespace, _KEYS) as (program, port), contextlib.ExitStack() as stack:
        with contextlib.closing(Scrapers(port, program.pid)) as scrapers:
            for _ in range(3):
                scrapers.get("/metrics")
        process = psutil.Process(program.pid)
        before = process.memory_info().rss
        for _ in range(_LIMITS.max_connections):
            client = stack.enter_context(socket.socket())
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BYTES)
            client.connect(("127.0.0.1", port))
            for number, piece in enumerate(pieces):
                if number:
                    client.recv(1)
                client.sendall(piece)
        after, since = 0, time.monotonic()
        while time.monotonic() < since + _STILL_SECONDS:
            time.sleep(0.1)
            if (now := process.memory_info().rss) != after:
                after, since = now, time.monotonic()
        return (after - before) / _LIMITS.max_connections


def main() -> None:
    with Rings(_SERIES, 8) as rings:
        rings.append()
        with exporting(rings.namespace) as (program, port), contextlib.closing(Scrapers(port, program.pid)) as scrapers:
            page = len(scrapers.get("/metrics"))
        print(f"`max_connections` {_LIMITS.max_connections}, `max_request_bytes` {_LIMITS.max_request_bytes}, ", end="")
        print(f"a page of {page / 1024:.0f} KiB\n\n| clients | KiB a connection |\n|---|---|")
        for name, pieces in _KINDS.items():
            rings.append()
            print(f"| {name} | {cost(rings.namespace, pieces) / 1024:.0f} |", flush=True)


if __name__ == "__main__":
    main()
