"""Detects the death of the supervisord that started this process.

A killed supervisord leaves its processes running (Supervisor/supervisor#199). The next supervisord would start them a
second time, and fail: the old collectors hold the locks, the old exporter the port. So each process of the daemon ends
when the supervisord that started it is gone.

A service manager that waits for the daemon is told by supervisord (fogmetrics.cli.notify), which finds READY in the
exporter's log.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Final

READY: Final = "READY=1"
log = logging.getLogger(__name__)


class Parent:
    """Remembers the parent at the start of the process, if it is supervisord (which sets SUPERVISOR_ENABLED)."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self.pid = os.getppid() if environ.get("SUPERVISOR_ENABLED") else 0
        self._waits = bool(self.pid and environ.get("NOTIFY_SOCKET"))
        # If supervisord died while the interpreter started, the parent is now init. But supervisord may be process 1
        # itself, in a container; then it shares its session with the processes that it starts.
        self._missed = self.pid == 1 and os.getsid(1) != os.getsid(0)
        # A descriptor that becomes readable when supervisord ends; -1: poll ``gone`` instead.
        self.fd = _pidfd(self.pid) if self.pid else -1

    @property
    def gone(self) -> bool:
        """True once the supervisord that started this process has ended; always False without one."""
        return self.pid != 0 and (self._missed or os.getppid() != self.pid)

    def ready(self) -> None:
        """Log READY if a service manager waits for it, whatever the log's level."""
        if self._waits:
            log.handle(
                logging.makeLogRecord({"name": log.name, "levelno": logging.INFO, "levelname": "INFO", "msg": READY})
            )

    def ended(self) -> None:
        """Note that ``fd`` was readable."""
        self._missed = True


def _pidfd(pid: int) -> int:
    """A pidfd of that process; -1 if unavailable: before Linux 5.3, or with a seccomp filter."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1
