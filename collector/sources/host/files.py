"""Files: reads files of /proc or /sys below a prefix."""

from __future__ import annotations

import os


class Files:
    """Files below ``prefix``."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix.rstrip("/")

    def content(self, name: str) -> bytes:
        """The whole file. Raises OSError."""
        with open(self.path(name), "rb", buffering=0) as file:
            return file.read() or b""

    def text(self, name: str) -> str:
        """The whole text of a file; invalid UTF-8 becomes U+FFFD, as in node_exporter. Raises OSError."""
        return self.content(name).decode(errors="replace")

    def passing(self, name: str) -> str | None:
        """The stripped text of a file that may vanish with its device; None if it can't be read now."""
        try:
            return self.text(name).strip()
        except OSError:
            return None

    def names(self, directory: str) -> list[str]:
        """Sorted names in a directory; none if it does not exist. Raises any other OSError."""
        try:
            return sorted(os.listdir(self.path(directory)))
        except FileNotFoundError:
            return []

    def path(self, name: str) -> str:
        return f"{self._prefix}/{name}"
