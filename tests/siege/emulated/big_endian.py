"""The big-endian side of the check ``emulated``: ``python -m tests.siege.emulated.big_endian``.

Answers each line of its input, an object of JSON with namespace and source of a ring that exists, with one: the byte
order of this machine, and what those who read and write that ring are told, "" where they are told nothing. No numpy:
this userland has none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable

from shm.errors import RingError
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter


def read(namespace: str, source: str) -> None:
    RingReader(namespace, source).close()


def write(namespace: str, source: str) -> None:
    RingWriter(namespace, source, interval_ns=15_000_000_000, capacity=8).close()


def begin(namespace: str, source: str) -> None:
    RingWriter(namespace, f"{source}-new", interval_ns=15_000_000_000, capacity=8).close()


def main() -> int:
    for line in sys.stdin:
        order = json.loads(line)
        told = {use.__name__: _told(use, order["namespace"], order["source"]) for use in (read, write, begin)}
        print(json.dumps({"byteorder": sys.byteorder, **told}), flush=True)
    return 0


def _told(use: Callable[[str, str], None], namespace: str, source: str) -> str:
    try:
        use(namespace, source)
    except RingError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    raise SystemExit(main())
