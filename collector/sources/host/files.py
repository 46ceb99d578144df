"""Files: text of files below a prefix, which stay open.

A read at offset 0 makes the kernel write a file of /proc afresh, at half the cost of opening it too.
"""

from __future__ import annotations

import os
from typing import Final

_CHUNK: Final = 32 * 1024


class Files:
    """Files below ``prefix``. One caller at a time."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.rstrip("/")
        self._open: dict[str, int] = {}

    def text(self, name: str) -> str:
        """All of the file; bytes that are no UTF-8 as U+FFFD, as node_exporter has them. Raises OSError."""
        return self.read(name).decode(errors="replace")

    def read(self, name: str) -> bytes:
        """All of the file. Raises OSError."""
        fd = self._open.get(name)
        if fd is None:
            fd = self._open[name] = os.open(f"{self._prefix}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            read = whole = os.pread(fd, _CHUNK, 0)
            while read:  # a long file comes in pieces, a short one is proven whole
                read = os.pread(fd, _CHUNK, len(whole))
                whole += read
        except OSError:
            os.close(self._open.pop(name))  # what it was of may be gone; the next reading opens what is there then
            raise
        return whole

    def passing(self, name: str) -> str | None:
        """The stripped text of a file that comes and goes with its device; None where it can't be read now."""
        try:
            with open(f"{self._prefix}/{name}", "rb", buffering=0) as file:
                return (file.read() or b"").decode(errors="replace").strip()
        except OSError:
            return None

    def names(self, directory: str) -> list[str]:
        """What is in the directory, in order; nothing where there is none. Raises OSError for any other reason."""
        try:
            return sorted(os.listdir(f"{self._prefix}/{directory}"))
        except FileNotFoundError:
            return []

    def path(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
