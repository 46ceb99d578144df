"""The big-endian side of the check ``emulated``: ``python -m tests.siege.emulated.big_endian``.

Answers each line of its input, an object of JSON with the namespace and source of a ring, with one: the byte order of
this machine, and the errors of reading, writing and beginning a ring, "" where there was none. Without numpy, which
this userland lacks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from shm.errors import RingError
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter


def _error(use: Callable[[], RingReader | RingWriter]) -> str:
    try:
        use().close()
    except RingError as error:
        return str(error)
    return ""


def _write(namespace: str, source: str) -> RingWriter:
    return RingWriter(namespace, source, interval_ns=15_000_000_000, capacity=8)


if __name__ == "__main__":
    for line in sys.stdin:
        order = json.loads(line)
        ring = order["namespace"], order["source"]
        answer = {
            "byteorder": sys.byteorder,
            "read": _error(lambda ring=ring: RingReader(*ring)),  # type: ignore[misc]
            "write": _error(lambda ring=ring: _write(*ring)),  # type: ignore[misc]
            "begin": _error(lambda ring=ring: _write(ring[0], f"{ring[1]}-new")),  # type: ignore[misc]
        }
        print(json.dumps(answer), flush=True)
