"""Runs inside supervisord: reports to systemd, and counts how often programs were started and ended.

supervisord loads the class by [rpcinterface:fogmetrics] of supervisord.conf and calls its public methods by XML-RPC.
Every five seconds it sends systemd the state of the programs and WATCHDOG=1, which means that supervisord's own loop
turns and nothing else: a program that hangs or fails never ends the others. READY=1 is sent from the moment when the
exporter has logged READY (fogmetrics.parent), which it does as soon as a request is answered.
Nothing is sent if no service manager has set NOTIFY_SOCKET.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections import Counter, defaultdict
from typing import Any, Final

from supervisor import events
from supervisor.states import ProcessStates

from fogmetrics.parent import READY

RECENT_SECONDS: Final = 600.0
_RUN: Final = (ProcessStates.STARTING, ProcessStates.RUNNING)


class Notifier:
    def __init__(self, supervisord: Any) -> None:
        self._supervisord = supervisord
        self._ready = False
        self._starts: Counter[str] = Counter()
        self._ends: defaultdict[str, list[float]] = defaultdict(list)
        for kind, callback in (
            (events.Tick5Event, self._tick),
            (events.ProcessLogEvent, self._logged),
            (events.ProcessStateStartingEvent, self._starting),
            (events.ProcessStateExitedEvent, self._exited),
        ):
            events.subscribe(kind, callback)

    def counts(self) -> dict[str, list[int]]:
        """By program: how often it was started, and how often it ended by itself in the last RECENT_SECONDS."""
        return {name: [starts, len(self._recent(name))] for name, starts in self._starts.items()}

    def _recent(self, name: str) -> list[float]:
        return [one for one in self._ends[name] if one > time.monotonic() - RECENT_SECONDS]

    def _starting(self, event: Any) -> None:
        self._starts[event.process.config.name] += 1

    def _exited(self, event: Any) -> None:
        name = event.process.config.name
        self._ends[name] = [*self._recent(name), time.monotonic()]

    def _logged(self, event: Any) -> None:
        if event.process.config.name == "exporter" and READY.encode() in event.data:
            self._ready = True
            self._tick(event)

    def _tick(self, _: Any) -> None:
        programs = [one for group in self._supervisord.process_groups.values() for one in group.processes.values()]
        missing = sorted(one.config.name for one in programs if one.get_state() not in _RUN)
        status = f"{len(programs) - len(missing)} of {len(programs)} programs run"
        notify(
            "READY=1\n" * self._ready  # again each time: the first may have met a full queue
            + f"WATCHDOG=1\nSTATUS={status}{'; not ' if missing else ''}{', '.join(missing)}"
        )


def notify(message: str) -> None:
    """Send a message to the service manager, without waiting; lost if its queue is full."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):  # in the abstract namespace
        address = "\0" + address[1:]
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(message.encode(), socket.MSG_DONTWAIT, address)
