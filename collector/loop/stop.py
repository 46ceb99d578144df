"""Stop: when a collector is to end, and how it sleeps until then.

A signal is only noted; the loop looks at the note between two ticks, so no handler's work lands in the middle of an
append. Signals are not blocked, because a process that a source starts would inherit that.
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
# How often a sleeper looks whether supervisord still lives, where nothing wakes it then: well within the minute for
# which a new supervisord tries to start our successor, however long the interval.
_LOOK_NS: Final = 5_000_000_000


class Stop:
    """Whether this process is to end: a signal asked for it, or the supervisord that started it is gone."""

    def __init__(self, parent: Parent | None = None) -> None:
        self._parent = parent or Parent()
        self._signalled = False
        self._orphaned = False
        self._caught = False
        # A pipe, not a socket pair: the module of sockets is 0.4 MiB that a source may have no use for.
        self._wake, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._waited_for = [fd for fd in (self._wake, self._parent.fd) if fd >= 0]

    def catch_signals(self) -> None:
        """Take SIGTERM, SIGINT and SIGHUP from now on. In the main thread only."""
        # The descriptor ends a sleep that begins between the signal and its handler.
        signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, self._note)
        self._caught = True

    def close(self) -> None:
        """Give the descriptors back; signals have their default effect again."""
        if self._caught:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
        os.close(self._wake)
        os.close(self._waker)

    def _note(self, number: int, frame: object) -> None:
        self._signalled = True

    def asked(self) -> bool:
        """True once this process is to end."""
        if self._parent.gone and not self._orphaned:
            self._orphaned = True
            log.warning("supervisord is gone")
        return self._signalled or self._orphaned

    def sleep_until(self, deadline_ns: int) -> bool:
        """Sleep to ``deadline_ns`` of the monotonic clock; True as soon as this process is to end."""
        while not self.asked():
            left_ns = deadline_ns - time.monotonic_ns()
            if left_ns <= 0:
                return False
            parent = self._parent.fd
            if parent < 0:
                left_ns = min(left_ns, _LOOK_NS)
            ready, _, _ = select.select(self._waited_for, [], [], left_ns / 1e9)
            if parent in ready:
                self._parent.ended()
            if self._wake in ready:
                os.read(self._wake, 64)
        return True
