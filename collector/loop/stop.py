"""Stop: ends a collector on a signal or when supervisord dies, and wakes it from its sleep.

The signal handler only sets a flag; the loop reads it between two ticks, so no handler interrupts an append. Signals
are not blocked, because a process that a source starts would inherit the mask.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from typing import Final

from fogmetrics.parent import Parent

log = logging.getLogger(__name__)

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
# How often a sleeping process checks that supervisord still lives, if it has no descriptor to wait for: well within the
# minute for which a new supervisord tries to start the next collector of this source, however long the interval.
_PARENT_CHECK_NS: Final = 5_000_000_000


class Stop:
    """Whether this process must end: it got a signal, or the supervisord that started it is gone."""

    def __init__(self, parent: Parent | None = None) -> None:
        self._parent = parent or Parent()
        self._signalled = False
        self._orphaned = False
        self._caught = False
        # A pipe, not a socket pair: importing ``socket`` takes 0.4 MiB, which many sources don't need.
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._waited_for = [fd for fd in (self._wake, self._parent.fd) if fd >= 0]

    def catch_signals(self) -> None:
        """Handle SIGTERM, SIGINT and SIGHUP from now on. Call it on the main thread."""
        # The descriptor ends a sleep that begins between the signal and its handler.
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self._note)
        self._caught = True

    def close(self) -> None:
        """Close the descriptors; signals have their default effect again."""
        if self._caught:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
        os.close(self._wake)
        os.close(self._waker)

    def _note(self, number: int, frame: object) -> None:
        self._signalled = True

    def asked(self) -> bool:
        """True once this process must end."""
        if self._parent.gone and not self._orphaned:
            self._orphaned = True
            log.warning("supervisord is gone")
        return self._signalled or self._orphaned

    def sleep_until(self, deadline_ns: int) -> bool:
        """Sleep until ``deadline_ns`` of the monotonic clock; return True as soon as this process must end."""
        while not self.asked():
            left_ns = deadline_ns - time.monotonic_ns()
            if left_ns <= 0:
                return False
            parent = self._parent.fd
            if parent < 0:
                left_ns = min(left_ns, _PARENT_CHECK_NS)
            ready, _, _ = select.select(self._waited_for, [], [], left_ns / 1e9)
            if parent in ready:
                self._parent.ended()
            if self._wake in ready:
                os.read(self._wake, 64)
        return True
