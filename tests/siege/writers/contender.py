"""Processes that start as the writer of one ring at one instant: forks of a process that has imported everything."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any, Final

from shm.errors import WriterBusy, WriterClosed
from shm.ring.writer import RingWriter
from tests.rings import append_proof, open_writer
from tests.siege.harness import require

_ANSWER_SECONDS: Final = 30.0
_FORK_SECONDS: Final = 60  # after which a fork that the check did not end is gone
_fork = get_context("fork")

Message = dict[str, Any]


class Gate:
    """Holds contenders back, and releases all of them at one instant."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()

    def wait(self, ready: Callable[[], None]) -> None:
        os.close(self._in)
        ready()
        os.read(self._out, 1)  # ends when the last writing end is closed: those of the others here, then the check's

    def open(self) -> None:
        os.close(self._in)
        os.close(self._out)


class Contender:
    """A process that tries to become the writer when the gate opens, and then obeys orders."""

    def __init__(self, namespace: str, gate: Gate, threads: int = 1) -> None:
        self._connection, its = _fork.Pipe()
        self._process = _fork.Process(target=_contend, args=(namespace, gate, its, threads), daemon=True)
        self._process.start()
        its.close()
        assert self._process.pid
        self.pid = self._process.pid
        self.answer()  # it is ready

    def answer(self) -> Message:
        """Its next message; empty when it died."""
        assert self._connection.poll(_ANSWER_SECONDS), f"process {self.pid} does not answer"
        try:
            message: Message = self._connection.recv()
        except (EOFError, ConnectionResetError):
            return {}
        require("error" not in message, f"I5: a start failed for another reason than a writer: {message.get('error')}")
        return message

    def send(self, order: str) -> None:
        self._connection.send(order)

    def ask(self, order: str) -> Message:
        self.send(order)
        return self.answer()

    def kill(self) -> None:
        self._process.kill()

    def reap(self) -> None:
        self._process.join()
        self._connection.close()


def _contend(namespace: str, gate: Gate, judge: Connection, threads: int) -> None:
    try:
        gate.wait(lambda: judge.send({}))
        won: list[RingWriter] = []
        busy: list[int] = []
        together = threading.Barrier(threads)

        def start() -> None:
            together.wait()
            try:
                won.append(open_writer(namespace, columns=2))
            except WriterBusy as error:
                busy.append(error.pid)

        with ThreadPoolExecutor(threads) as pool:
            for one in [pool.submit(start) for _ in range(threads)]:
                one.result()
        since_ns = time.monotonic_ns()
        if not won:
            judge.send({"busy": busy})
            return
        resumed = won[0].head
        append_proof(won[0])
        judge.send({"won": len(won), "since": since_ns, "resumed": resumed, "busy": busy})
        _obey(namespace, won[0], judge)
    except EOFError:
        pass  # the check has ended
    except BaseException as error:  # noqa: BLE001 -- the check reports it
        judge.send({"error": repr(error)})


def _obey(namespace: str, writer: RingWriter, judge: Connection) -> None:
    while True:
        order = judge.recv()
        if order == "close":
            until_ns = time.monotonic_ns()
            writer.close()
            judge.send({"until": until_ns})
            return
        if order == "run":
            program = subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({_FORK_SECONDS})"])
            judge.send({"fork": program.pid})
            continue
        forked = os.fork()
        if not forked:
            judge.send({"fork": os.getpid(), "possible": _possible_in_a_fork(namespace, writer)})
            if order == "fork":
                time.sleep(_FORK_SECONDS)
            else:
                writer.close()
            os._exit(0)
        if order == "short fork":
            os.waitpid(forked, 0)


def _possible_in_a_fork(namespace: str, writer: RingWriter) -> list[str]:
    """What of the parent's a fork could use, though it must not."""
    parent = os.getppid()
    possible = []
    uses: dict[str, Callable[[], object]] = {
        "append to its parent's ring": lambda: append_proof(writer), "beat in it": writer.beat,
        "let it grow": lambda: writer.reserve(100), "free columns of it": writer.prune,
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
            possible.append(f"be refused for process {busy.pid}, and the writer is {parent}")
    return possible
