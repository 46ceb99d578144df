"""Contenders for one ring: processes forked from a parent that has all imported, so that they start within one instant.

They are told what to do, and say what came of it, over a socket each; they end when their judge does.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final, NoReturn

from shm.errors import WriterBusy, WriterClosed
from shm.ring.writer import RingWriter
from tests.rings import append_proof, open_writer
from tests.siege.harness import require

_ANSWER_SECONDS: Final = 30.0
_FORK_SECONDS: Final = 60  # a fork that nobody ends, because its contest was ended, is gone by then

Message = dict[str, Any]
_ours: set[socket.socket] = set()  # our ends of the pairs: a child must hold none, or its sibling misses our end


class Contender:
    """A process that tries to become the writer when the gate opens, and then does what it is told."""

    def __init__(self, namespace: str, gate: Gate, threads: int = 1) -> None:
        mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.pid = os.fork()
        if not self.pid:
            mine.close()
            for other in _ours:
                other.close()
            _contend(namespace, gate, its, threads)
        its.close()
        mine.settimeout(_ANSWER_SECONDS)
        self._socket = mine
        _ours.add(mine)
        self.answers()  # it is ready

    def answers(self) -> Message:
        """Its next message; empty when it died."""
        data = self._socket.recv(4096)
        message: Message = json.loads(data) if data else {}
        require("error" not in message, f"I5: a start failed for another reason than a writer: {message.get('error')}")
        return message

    def send(self, order: str) -> None:
        self._socket.send(order.encode())

    def tell(self, order: str) -> Message:
        self.send(order)
        return self.answers()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def reap(self) -> None:
        os.waitpid(self.pid, 0)
        _ours.discard(self._socket)
        self._socket.close()


class Gate:
    """Holds contenders up, and lets all of them go in one instant."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()

    def wait(self, ready: Callable[[], None]) -> None:
        os.close(self._in)
        ready()
        os.read(self._out, 1)  # ends when the last one who could write is gone: us closed, the judge opens

    def open(self) -> None:
        os.close(self._in)
        os.close(self._out)


def _contend(namespace: str, gate: Gate, judge: socket.socket, threads: int) -> NoReturn:
    def say(message: Message) -> None:
        judge.send(json.dumps(message).encode())

    try:
        gate.wait(lambda: say({}))
        if threads > 1:
            won, busy = _by_threads(namespace, threads)
        else:
            won, busy = [], []
            try:
                won = [open_writer(namespace, columns=2)]
            except WriterBusy as error:
                busy = [error.pid]
        since_ns = time.monotonic_ns()
        if not won:
            say({"busy": busy})
            os._exit(0)
        resumed = won[0].head
        append_proof(won[0])
        say({"won": len(won), "since": since_ns, "resumed": resumed, "busy": busy})
        _obey(namespace, won[0], judge, say)
    except BaseException as error:  # noqa: BLE001 -- nothing may leave a fork but its message
        with contextlib.suppress(OSError):
            say({"error": repr(error)})
    finally:
        os._exit(0)


def _by_threads(namespace: str, count: int) -> tuple[list[RingWriter], list[int]]:
    won: list[RingWriter] = []
    busy: list[int] = []
    together = threading.Barrier(count)

    def one() -> None:
        together.wait()
        try:
            won.append(open_writer(namespace, columns=2))
        except WriterBusy as error:
            busy.append(error.pid)

    all_of_them = [threading.Thread(target=one) for _ in range(count)]
    for thread in all_of_them:
        thread.start()
    for thread in all_of_them:
        thread.join()
    return won, busy


def _obey(namespace: str, writer: RingWriter, judge: socket.socket, say: Callable[[Message], None]) -> None:
    while order := judge.recv(64).decode():
        if order == "close":
            until_ns = time.monotonic_ns()
            writer.close()
            say({"until": until_ns})
            return
        if order == "fork":
            forked = os.fork()
            if not forked:
                _as_fork(namespace, writer, say)
                time.sleep(_FORK_SECONDS)
                os._exit(0)
        elif order == "short fork":
            forked = os.fork()
            if not forked:
                _as_fork(namespace, writer, say)
                writer.close()
                os._exit(0)
            os.waitpid(forked, 0)
        elif order == "run":
            program = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({_FORK_SECONDS})"])
            say({"fork": program.pid})


def _as_fork(namespace: str, writer: RingWriter, say: Callable[[Message], None]) -> None:
    """Try everything that is the parent's; say what was possible."""
    parent = os.getppid()
    possible = []
    uses: dict[str, Callable[[], object]] = {
        "append to its parent's ring": lambda: append_proof(writer), "beat in it": writer.beat,
        "let it grow": lambda: writer.reserve(100), "free columns of it": writer.free,
        "publish it": writer.keep_published,
    }  # fmt: skip
    for name, use in uses.items():
        try:
            use()
            possible.append(name)
        except WriterClosed:
            pass
    try:
        open_writer(namespace)
        possible.append("open its parent's ring as a second writer")
    except WriterBusy as busy:
        if busy.pid != parent:
            possible.append(f"be told that process {busy.pid} is the writer, not {parent}")
    say({"fork": os.getpid(), "possible": possible})
