"""Inject faults into a daemon under supervisord: SIGKILL, SIGSTOP and SIGCONT of its processes, and log them.

The plan begins with a program that is killed whenever it has just begun, supervisord stopped and supervisord killed.
Then a kill and a long stop of each program; then random faults until the time is up.
"""

from __future__ import annotations

import contextlib
import random
import signal
import threading
import time
import xmlrpc.client
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil

from tests.daemon import Daemon
from tests.siege.harness import Violation, require

SUPERVISORD = "supervisord"
# A program that dies twice within startsecs is started a third time by startretries = 10, and given up by 1.
_BURST = 3
_BURST_PROGRAM = "betanet"
_MEAN_SECONDS = 0.5  # between two faults
_LONG_STOP_SECONDS = (2.2, 3.0)  # longer than three intervals: the source is stale
_SHORT_STOP_SECONDS = (0.05, 1.2)
_JUST_BEGUN_SECONDS = 1.2  # a killed program is started again within a second, and takes half a second to begin
# Only for hangs: no process takes so long to end or to be replaced.
_END_SECONDS = 10.0
_START_SECONDS = 20.0
_EXITED_SECONDS = 6.0
_POLL_SECONDS = 0.02


@dataclass(slots=True)
class Fault:
    """``what``: "kill" or "stop"; times of CLOCK_MONOTONIC. ``end_ns`` of a stop: it was continued, or killed."""

    what: str
    program: str
    pid: int
    at_ns: int
    end_ns: int = 0

    def __str__(self) -> str:
        until = f" for {(self.end_ns - self.at_ns) / 1e9:.3f} s" if self.what == "stop" and self.end_ns else ""
        return f"{self.at_ns / 1e9:.3f}: {self.what} {self.program} (pid {self.pid}){until}"

    def overlaps(self, since_ns: int, until_ns: int) -> bool:
        """Whether any of it was between the two times. A stop that lasts has no end yet."""
        end_ns = self.at_ns if self.what == "kill" else self.end_ns or until_ns
        return self.at_ns <= until_ns and end_ns >= since_ns


@dataclass(slots=True)
class _Stopped:
    fault: Fault
    process: psutil.Process
    until: float


@dataclass(slots=True)
class _Orphan:
    """A process whose supervisord was killed. It must end by itself within ``left`` seconds in which it runs."""

    program: str
    process: psutil.Process
    left: float = _END_SECONDS


@dataclass(slots=True)
class Faults:
    """Injects faults into ``daemon`` for ``seconds``. ``log`` may be read by another thread meanwhile."""

    daemon: Daemon
    programs: Sequence[str]
    random: random.Random
    seconds: float
    log: list[Fault] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)
    _stopped: dict[str, _Stopped] = field(default_factory=dict)
    _orphans: list[_Orphan] = field(default_factory=list)
    _exited: dict[str, float] = field(default_factory=dict)
    _looked: float = 0.0

    def run(self) -> None:
        """The plan, and random faults until the time is up. Leaves nothing stopped, whatever happens."""
        until = time.monotonic() + self.seconds
        # What the first ones bring about must be over when the time is up.
        first = [("burst", _BURST_PROGRAM), ("kill", SUPERVISORD), ("stop", SUPERVISORD)]
        rest = [(what, program) for what in ("kill", "long stop") for program in self.programs]
        self.random.shuffle(first)
        self.random.shuffle(rest)
        plan = first + rest
        try:
            while (plan or time.monotonic() < until) and not self.stop.is_set():
                self._wait(min(self.random.expovariate(1 / _MEAN_SECONDS), 4 * _MEAN_SECONDS))
                for one in plan:  # the first whose program runs now
                    if self._inject(*one):
                        plan.remove(one)
                        break
                else:
                    self._inject(*self._any())
            while (self._stopped or self._orphans) and not self.stop.is_set():
                self._wait(_POLL_SECONDS)
        finally:
            for program in list(self._stopped):
                self._continue(program)
            for orphan in self._orphans:
                with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                    orphan.process.kill()

    def _any(self) -> tuple[str, str]:
        what = self.random.choices(("kill", "stop", "long stop", "burst"), (50, 35, 15, 2))[0]
        if what in ("kill", "stop") and self.random.random() < 0.06:
            return what, SUPERVISORD
        return what, self.random.choice(self.programs)

    def _inject(self, what: str, program: str) -> bool:
        """False, and nothing done, where the program does not run now."""
        if program == SUPERVISORD:
            return self._kill_supervisord() if what == "kill" else self._stop_supervisord()
        if what == "burst":
            return self._burst(program)
        if what == "kill":
            return self._kill(program)
        return self._stop(program, _LONG_STOP_SECONDS if what == "long stop" else _SHORT_STOP_SECONDS)

    # ---- the faults ------------------------------------------------------------------------------------------

    def _kill(self, program: str) -> bool:
        process = self._process(program)
        if process is None or any(fault.what == "kill" and fault.pid == process.pid for fault in self.log[-5:]):
            return False  # it is gone, or dying
        self.log.append(Fault("kill", program, process.pid, time.monotonic_ns()))
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
        if program in self._stopped and self._stopped[program].process == process:
            self._stopped.pop(program).fault.end_ns = time.monotonic_ns()
        return True

    def _burst(self, program: str) -> bool:
        """Kill the program, and its successors as soon as they run: supervisord must not give it up.

        Returns when supervisord has started it for the last time, so that no other fault hides whether it does: a
        supervisord that is killed meanwhile forgets that it has given the program up.
        """
        if not self._kill(program):
            return False
        for kills in range(1, _BURST + 1):
            deadline = time.monotonic() + _START_SECONDS
            killed = self.log[-1].pid
            while (process := self._process(program)) is None or process.pid == killed:
                if self.stop.is_set():
                    return True
                require(
                    time.monotonic() < deadline,
                    f"{program} was not started again {_START_SECONDS:g} s after its kill number {kills} in a row",
                )
                self._wait(_POLL_SECONDS)
            if kills < _BURST:
                self._kill(program)
        return True

    def _stop(self, program: str, seconds: tuple[float, float]) -> bool:
        process = self._process(program)
        if process is None or program in self._stopped:
            return False
        fault = Fault("stop", program, process.pid, time.monotonic_ns())
        try:
            process.suspend()
        except psutil.NoSuchProcess:
            return False
        self.log.append(fault)
        self._stopped[program] = _Stopped(fault, process, time.monotonic() + self.random.uniform(*seconds))
        return True

    def _stop_supervisord(self) -> bool:
        process = self.daemon.supervisord
        fault = Fault("stop", SUPERVISORD, process.pid, time.monotonic_ns())
        self.log.append(fault)
        process.send_signal(signal.SIGSTOP)
        try:
            self._kill(self.random.choice(self.programs))  # not started again until supervisord goes on
            self._wait(self.random.uniform(0.5, 1.5), look=False)
        finally:
            process.send_signal(signal.SIGCONT)
            fault.end_ns = time.monotonic_ns()
        return True

    def _kill_supervisord(self) -> bool:
        """Kill supervisord and start another, as an init system would: before its processes may have ended.

        One of these has often just begun, or is about to, and never sees its parent alive.
        """
        process = self.daemon.supervisord
        self._kill(self.random.choice(self.programs))
        self._wait(self.random.uniform(0.0, _JUST_BEGUN_SECONDS))
        for child in self._children():
            program = self._program(child)
            if program is not None:
                self._orphans.append(_Orphan(program, child))
        self.log.append(Fault("kill", SUPERVISORD, process.pid, time.monotonic_ns()))
        process.kill()
        process.wait()
        self._wait(self.random.uniform(0.0, 0.5), look=False)
        self.daemon.start()
        return True

    def _continue(self, program: str) -> None:
        stopped = self._stopped.pop(program)
        with contextlib.suppress(psutil.NoSuchProcess):
            stopped.process.resume()
        stopped.fault.end_ns = time.monotonic_ns()

    # ---- meanwhile -------------------------------------------------------------------------------------------

    def _wait(self, seconds: float, look: bool = True) -> None:
        """Continue what was stopped long enough; require that orphans end and that no program is given up."""
        deadline = time.monotonic() + seconds
        while True:
            for program in [one for one, stopped in self._stopped.items() if stopped.until <= time.monotonic()]:
                self._continue(program)
            if look:
                self.look_at_states()
            left = min(deadline - time.monotonic(), _POLL_SECONDS)
            if left <= 0 or self.stop.is_set():
                return
            self.stop.wait(left)
            self._look_at_orphans(left)

    def _look_at_orphans(self, passed: float) -> None:
        stopped = [one.process for one in self._stopped.values()]
        for orphan in list(self._orphans):
            if not orphan.process.is_running() or self._program(orphan.process) is None:
                self._orphans.remove(orphan)
            elif orphan.process not in stopped:
                orphan.left -= passed
                pid = orphan.process.pid
                ended = (
                    f"{orphan.program} (pid {pid}) has not ended {_END_SECONDS:g} s after its supervisord was killed"
                )
                require(orphan.left > 0, ended)

    def look_at_states(self) -> None:
        """Ask supervisord for the programs' states, twice a second. Raises Violation where it has given one up."""
        if time.monotonic() - self._looked < 0.5:
            return
        self._looked = time.monotonic()
        try:
            states = self.daemon.states()
        except (OSError, xmlrpc.client.Error):  # it was killed, and the next does not answer yet
            self._exited.clear()
            return
        for program, state in states.items():
            require(state != "FATAL", f"supervisord has given {program} up: it is FATAL")
            if state != "EXITED":
                self._exited.pop(program, None)
            elif time.monotonic() - self._exited.setdefault(program, time.monotonic()) > _EXITED_SECONDS:
                raise Violation(f"{program} is EXITED, and nobody starts it again")

    # ---- processes -------------------------------------------------------------------------------------------

    def _process(self, program: str) -> psutil.Process | None:
        return next((child for child in self._children() if self._program(child) == program), None)

    def _children(self) -> list[psutil.Process]:
        try:
            return psutil.Process(self.daemon.supervisord.pid).children()
        except psutil.NoSuchProcess:
            return []

    @staticmethod
    def _program(process: psutil.Process) -> str | None:
        """The program that the process runs; None while it is still a fork of supervisord, or no longer alive."""
        try:
            command = process.cmdline()
            if process.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.NoSuchProcess:
            return None
        module = command[command.index("-m") + 1 :] if "-m" in command else []
        if module[:1] == ["exporter"]:
            return "exporter"
        return module[1] if module[:1] == ["collector"] and len(module) > 1 else None
