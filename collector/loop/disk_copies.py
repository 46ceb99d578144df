"""Snapshots: copies a collector's ring to disk every few minutes and at an orderly end.

Snapshots are taken on their own thread and never delay the tick loop: the copy reads the published segment as any
reader does, in system calls that release the interpreter lock.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Final

from xxhash import xxh3_64_intdigest

from shm.ring import disk_copy
from shm.ring.writer import RingWriter
from shm.safe_repr import said

log = logging.getLogger(__name__)

# How long an orderly end waits for a copy in progress; supervisord kills after its stopwaitsecs, 10 by default.
_JOIN_SECONDS: Final = 5.0
_FIRST_SECONDS: Final = 10.0


class Snapshots:
    """Writes snapshots of ``source``'s ring to ``directory`` from :meth:`start` to :meth:`finish`."""

    def __init__(self, directory: Path, namespace: str, source: str, every_seconds: float) -> None:
        self._directory = directory
        self._namespace = namespace
        self._source = source
        self._every_seconds = every_seconds
        self._end = threading.Event()
        self._failed = False
        self._thread = threading.Thread(target=self._run, name=f"snapshots-{source}", daemon=True)
        self.last_seconds = self._newest_on_disk()  # Unix time of the last snapshot; None without one

    def start(self) -> None:
        self._thread.start()

    def finish(self, writer: RingWriter) -> None:
        """Write the last snapshot, with the whole history, from ``writer``, which must still be open.

        It reads the writer's own descriptor: the file's name may be gone, as when a logout removes a user's shared
        memory.
        """
        self._end.set()
        if self._thread.ident is not None:
            self._thread.join(_JOIN_SECONDS)
        writer.leave()
        self._take(writer)

    def _run(self) -> None:
        # Soon after the start, to report an unusable directory early; not at the same time in all collectors.
        first_seconds = min(_FIRST_SECONDS, self._every_seconds)
        wait_seconds = first_seconds * (0.5 + xxh3_64_intdigest(self._source.encode()) / 2**65)
        while not self._end.wait(wait_seconds):
            self._take()
            wait_seconds = self._every_seconds

    def _take(self, writer: RingWriter | None = None) -> None:
        begun = time.monotonic()
        try:
            opened = writer.open_again() if writer else None
            size = disk_copy.take(self._directory, self._namespace, self._source, opened)
        except Exception as error:  # noqa: BLE001 - the ring continues after any failure, and the next try may succeed
            # Logged once, since disks stay broken or full for long. The previous snapshot remains.
            if not self._failed:
                remedy = "give the collector's user a [shm] snapshot_dir with room for two of its ring"
                log.error("snapshot failed", extra={
                    "source": self._source, "directory": str(self._directory), "error": said(error),
                    **({"remedy": remedy} if isinstance(error, OSError) else {}),
                })  # fmt: skip
            self._failed = True
            return
        if self._failed:
            log.info("snapshots work again", extra={"source": self._source})
        self._failed = False
        self.last_seconds = time.time()
        seconds = round(time.monotonic() - begun, 6)
        log.debug("snapshot taken", extra={"source": self._source, "bytes": size, "seconds": seconds})

    def _newest_on_disk(self) -> float | None:
        try:
            return disk_copy.file_of(self._directory, self._namespace, self._source).stat().st_mtime
        except OSError:
            return None
