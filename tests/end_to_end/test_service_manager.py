"""What a service manager hears from the daemon's supervisord: readiness, watchdog, status."""

from __future__ import annotations

import os
import signal
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.status.programs import Program, read
from tests.daemon import Daemon
from tests.programs import wait_until

pytestmark = pytest.mark.real

NO_BETANET = "[source.betanet]\nenabled = false\n"


class Manager:
    """The socket of a service manager."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self.said: list[str] = []
        self.senders: set[int] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def hears(self, text: str) -> bool:
        """Whether a message that came since the last look has this text."""
        new = []
        while True:
            try:
                message, [(_, _, credentials)], _, _ = self._socket.recvmsg(4096, socket.CMSG_SPACE(12))
            except BlockingIOError:
                break
            new.append(message.decode())
            self.senders.add(struct.unpack("iII", credentials)[0])
        self.said += new
        return any(text in one for one in new)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


@pytest.fixture
def daemon(tmp_path: Path, manager: Manager) -> Daemon:
    return Daemon(tmp_path, interval_seconds=0.3, toml=NO_BETANET, environ={"NOTIFY_SOCKET": manager.address})


def own(daemon: Daemon, text: str) -> None:
    """A file of the daemon's conf.d."""
    path = daemon.directory / "conf.d" / "own.conf"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def test_the_service_is_ready_as_soon_as_the_exporter_serves_and_not_before(daemon: Daemon, manager: Manager) -> None:
    late = f"sh -c 'until test -e {daemon.directory}/go; do sleep 0.1; done; exec \"$0\" -P -m exporter'"
    own(daemon, f"[program:exporter]\ncommand = {late} {sys.executable}\nredirect_stderr = false\n")
    daemon.configure(0.3, toml=f'{NO_BETANET}[log]\nlevel = "error"\n')
    with daemon:
        wait_until(lambda: manager.hears("WATCHDOG=1"), 20, "the watchdog")
        wait_until(lambda: manager.hears("WATCHDOG=1"), 20, "the watchdog again")
        assert not [one for one in manager.said if "READY=1" in one]
        (daemon.directory / "go").touch()
        wait_until(lambda: manager.hears("READY=1"), 20, "readiness")
        assert daemon.get("/metrics").status_code == 200


def test_the_watchdog_is_of_supervisord_alone_whatever_its_programs_do(daemon: Daemon, manager: Manager) -> None:
    own(daemon, "[program:failing]\ncommand = false\nstartretries = 0\n")
    with daemon:
        wait_until(lambda: manager.hears("READY=1"), 20, "readiness")
        os.kill(daemon.pid("exporter"), signal.SIGSTOP)
        wait_until(lambda: daemon.states()["failing"] == "FATAL", 20, "the program's end")
        manager.hears("")  # what came before
        for _ in range(2):
            wait_until(lambda: manager.hears("WATCHDOG=1"), 20, "the watchdog")
        assert "STATUS=4 of 5 programs run; not failing" in manager.said[-1]
        assert manager.senders == {daemon.supervisord.pid}
        os.kill(daemon.pid("exporter"), signal.SIGCONT)


def test_a_program_that_ends_again_and_again_is_counted_and_a_problem(daemon: Daemon) -> None:
    daemon.environ.clear()  # without a service manager
    own(daemon, "[program:failing]\ncommand = sleep 0.3\nstartsecs = 0\nautorestart = true\n")

    def known(name: str) -> Program:
        return (read(daemon.directory / "run") or {})[name]

    with daemon:
        daemon.wait_until_collected("node")
        wait_until(lambda: known("failing").recent_ends >= 3, 20, "three ends")
        health = daemon.get("/health").json()
        assert health["status"] == "degraded"
        assert any(one.startswith("program failing has ended ") for one in health["problems"]), health["problems"]
        daemon.supervisor("stopProcess", "failing")
        before = known("failing")
        assert before.recent_ends <= before.starts <= before.recent_ends + 1  # a stop by a user is no end
        assert before.state == "STOPPED"
        assert known("exporter")[:3] == ("RUNNING", 1, 0)
        assert "READY" not in (daemon.directory / "run" / "log" / "exporter.log").read_text()
