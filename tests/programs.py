"""The real programs that tests run against: where they are, how they start, how they are stopped.

Each wait is bounded and says what it waited for; what a test starts it stops by its pid, whatever happened.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

T = TypeVar("T")

_HOW_TO_GET = {"haproxy": "apt-get install haproxy", "supervisord": "pip install supervisor"}
_POLL_SECONDS = 0.02
_STOP_SECONDS = 10.0


def find_program(name: str) -> str:
    """The program beside this interpreter, else on PATH; without it the test is skipped, saying how to get it."""
    beside = Path(sys.executable).parent / name
    if beside.is_file() and os.access(beside, os.X_OK):
        return str(beside)
    # Debian puts daemons where the PATH of an ordinary user does not look.
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=places)
    if found is None:
        how = f": {_HOW_TO_GET[name]}" if name in _HOW_TO_GET else ""
        pytest.skip(f"{name} is not installed{how}")
    return found


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listened on a moment ago."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def wait_until(predicate: Callable[[], T], timeout: float, what: str) -> T:
    """The first true value of ``predicate()``; AssertionError naming ``what`` after ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() >= deadline:
            raise AssertionError(f"waited {timeout:g} s in vain for {what}; the last value was {value!r}")
        time.sleep(_POLL_SECONDS)


def listens(port: int) -> bool:
    """Whether 127.0.0.1 accepts connections at ``port``."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@dataclass(frozen=True)
class Program:
    """A program that runs; ``log_path`` holds its standard output and error."""

    process: subprocess.Popen[bytes]
    log_path: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_until(self, predicate: Callable[[], T], timeout: float, what: str) -> T:
        """As :func:`wait_until`, but fails at once, with the log, when the program ends before."""

        def alive_and() -> T:
            value = predicate()
            assert value or self.process.poll() is None, f"it ended before {what}:\n{self.log()}"
            return value

        try:
            return wait_until(alive_and, timeout, what)
        except AssertionError as error:
            raise AssertionError(f"{error}\nits log:\n{self.log()}") from None


@contextlib.contextmanager
def running(
    command: Sequence[str | os.PathLike[str]],
    log_path: Path,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Program]:
    """The program of ``command`` while the block runs; ``env`` is added to this process's. Stopped by SIGTERM, then
    by SIGKILL.
    """
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(env or {})},
        )
    try:
        yield Program(process, log_path)
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the program, and reap it."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()
