"""Whether supervisord, which started this process, still lives.

A supervisord that is killed leaves its processes running (Supervisor/supervisor#199), and its successor starts them
a second time: the collectors would then fail for the lock, the exporter for the port. So each of our processes ends
by itself once the supervisord that started it is gone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping


class Parent:
    """Remembers the parent at the start of the process, if it is supervisord (which sets SUPERVISOR_ENABLED)."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        self.pid = os.getppid() if environ.get("SUPERVISOR_ENABLED") else 0
        # It may have died while the interpreter began: then init has taken its place already, and would never go.
        # A supervisord that is process 1 itself, in a container, shares its session with what it starts.
        self._missed = self.pid == 1 and os.getsid(1) != os.getsid(0)
        # Readable once it has ended: who waits for this wakes then, and need not look from time to time. -1: look.
        self.fd = _pidfd(self.pid) if self.pid else -1

    @property
    def gone(self) -> bool:
        """True once the supervisord that started us is no longer our parent; always False without one."""
        return self.pid != 0 and (self._missed or os.getppid() != self.pid)

    def ended(self) -> None:
        """Note that ``fd`` was readable."""
        self._missed = True


def _pidfd(pid: int) -> int:
    """A descriptor of that process; -1 where there is none to be had: before Linux 5.3, or by a seccomp filter."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1
