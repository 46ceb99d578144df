"""Runs inside supervisord: writes the state of its programs to a file, and reports to systemd.

supervisord loads the class by [rpcinterface:fogmetrics] of supervisord.conf. The file, programs.json beside
supervisord's socket, is for /health and ``fogmetrics status`` (exporter.status.programs).

Every five seconds the class sends systemd the state of the programs and WATCHDOG=1, which means that supervisord's own
loop turns and nothing else: a program that hangs or fails never ends the others. READY=1 is sent once the exporter has
logged READY (fogmetrics.parent), as soon as it answers requests. Nothing is sent if no service manager has set
NOTIFY_SOCKET.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any, Final

from supervisor import events
from supervisor.states import ProcessStates, getProcessStateDescription

from exporter.status.programs import FILE, RECENT_SECONDS, Program, server_directory, text
from fogmetrics.parent import READY

_RUN: Final = (ProcessStates.STARTING, ProcessStates.RUNNING)


class Notifier:
    def __init__(self, supervisord: Any) -> None:
        self._supervisord = supervisord
        self._ready = False
        self._starts: Counter[str] = Counter()
        self._ends: defaultdict[str, list[float]] = defaultdict(list)
        self._written = ""
        for kind, callback in (
            (events.Tick5Event, self._tick),
            (events.ProcessLogEvent, self._logged),
            (events.ProcessStateEvent, self._changed),
            (events.ProcessGroupEvent, self._write),
        ):
            events.subscribe(kind, self._guarded(callback))

    def _guarded(self, callback: Callable[[Any], None]) -> Callable[[Any], None]:
        """The callback with its exceptions logged: supervisord, which calls it, would end by them, and all programs."""

        def call(event: Any) -> None:
            try:
                callback(event)
            except Exception:  # noqa: BLE001
                self._supervisord.options.logger.error(traceback.format_exc())

        return call

    def _tick(self, event: Any) -> None:
        self._write(event)
        programs = self._programs()
        missing = sorted(one.config.name for one in programs if one.get_state() not in _RUN)
        status = f"{len(programs) - len(missing)} of {len(programs)} programs run"
        notify(
            "READY=1\n" * self._ready  # again each time: the first may have met a full queue
            + f"WATCHDOG=1\nSTATUS={status}{'; not ' if missing else ''}{', '.join(missing)}"
        )

    def _logged(self, event: Any) -> None:
        if event.process.config.name == "exporter" and READY.encode() in event.data:
            self._ready = True
            self._tick(event)

    def _changed(self, event: Any) -> None:
        name = event.process.config.name
        if isinstance(event, events.ProcessStateStartingEvent):
            self._starts[name] += 1
        elif isinstance(event, events.ProcessStateExitedEvent):
            self._ends[name].append(time.monotonic())
        self._write(event)

    def _programs(self) -> list[Any]:
        return [one for group in self._supervisord.process_groups.values() for one in group.processes.values()]

    def _write(self, _: Any) -> None:
        """Write the file if it would change."""
        new = text({one.config.name: self._program(one) for one in self._programs()})
        directory = server_directory({"SUPERVISOR_SERVER_URL": self._supervisord.options.serverurl or ""})
        if new == self._written or directory is None:
            return
        temporary = directory / f"{FILE}.new"
        with contextlib.suppress(OSError):  # such as a full disk: the next tick tries again
            temporary.write_text(new)
            temporary.chmod(0o644)  # for the exporter's user, whatever the umask
            temporary.replace(directory / FILE)
            self._written = new

    def _program(self, process: Any) -> Program:
        name, since = process.config.name, time.monotonic() - RECENT_SECONDS
        self._ends[name] = [one for one in self._ends[name] if one > since]
        state = getProcessStateDescription(process.get_state())
        why = f"it ended with status {process.exitstatus}" if state == "EXITED" else process.spawnerr or "it ended"
        return Program(state, self._starts[name], len(self._ends[name]), why, process.config.stdout_logfile or "")


def notify(message: str) -> None:
    """Send a message to the service manager, without waiting; lost if its queue is full."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address.startswith("@"):  # in the abstract namespace
        address = "\0" + address[1:]
    if address:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(message.encode(), socket.MSG_DONTWAIT, address)
