"""Files: reads files below a prefix and keeps them open.

A read at offset 0 makes the kernel generate a file of /proc again, at half the cost of opening it as well.
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
        """The whole text of a file; invalid UTF-8 becomes U+FFFD, as in node_exporter. Raises OSError."""
        fd = self._open.get(name)
        if fd is None:
            fd = self._open[name] = os.open(f"{self._prefix}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        try:
            read = whole = os.pread(fd, _CHUNK, 0)
            while read:  # until the end of the file
                read = os.pread(fd, _CHUNK, len(whole))
                whole += read
        except OSError:
            os.close(self._open.pop(name))  # its device may be gone; the next call opens the file again
            raise
        return whole.decode(errors="replace")

    def passing(self, name: str) -> str | None:
        """The stripped text of a file that may vanish with its device; None if it can't be read now."""
        try:
            with open(f"{self._prefix}/{name}", "rb", buffering=0) as file:
                return (file.read() or b"").decode(errors="replace").strip()
        except OSError:
            return None

    def names(self, directory: str) -> list[str]:
        """Sorted names in a directory; none if it does not exist. Raises any other OSError."""
        try:
            return sorted(os.listdir(f"{self._prefix}/{directory}"))
        except FileNotFoundError:
            return []

    def path(self, name: str) -> str:
        return f"{self._prefix}/{name}"

    def close(self) -> None:
        while self._open:
            os.close(self._open.popitem()[1])
