"""The whole daemon under the real supervisord, on a free port, in a namespace and a directory of its own."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import xmlrpc.client
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
from supervisor.xmlrpc import SupervisorTransport

from fogmetrics import config as configuration
from fogmetrics.cli import programs
from tests import http_client
from tests.programs import find_program, free_port, wait_until
from tests.rings import remove_files_of

ROOT = Path(__file__).parent.parent
SOURCES = ("node", "deployment", "betanet", "system")
PROGRAMS = (*SOURCES, "exporter")
OFF = ("applications", "host", "textfile")  # sources that have no program unless the configuration enables them
STATES: Mapping[str, str] = dict.fromkeys(PROGRAMS, "RUNNING")
_numbers = itertools.count()


class Daemon:
    """Runs the repository's own supervisord.conf from a copy in ``directory``; ``toml`` is appended to its keys."""

    def __init__(
        self,
        directory: Path,
        *,
        interval_seconds: float = 0.5,
        toml: str = "",
        environ: Mapping[str, str] | None = None,
        capacity: int = 5760,
    ) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.namespace = f"e2e-{os.getpid()}-{next(_numbers)}"
        self.environ = dict(environ or {})
        self.log = directory / "supervisord.out"
        self._process: subprocess.Popen[bytes] | None = None
        (directory / "run" / "log").mkdir(parents=True, exist_ok=True)
        conf = (ROOT / "supervisord.conf").read_text()
        # Programs that run are known as such sooner: no test is about one that fails after its first second.
        (directory / "supervisord.conf").write_text(conf.replace("startsecs = 5", "startsecs = 1"))
        self.configure(interval_seconds, capacity, toml)

    def configure(self, interval_seconds: float, capacity: int = 5760, toml: str = "") -> None:
        (self.directory / "fogmetrics.toml").write_text(
            f'[shm]\nnamespace = "{self.namespace}"\ncapacity = {capacity}\n'
            f"[collector]\ninterval_seconds = {interval_seconds}\n[exporter]\nport = {self.port}\n{toml}"
        )

    def start(self) -> None:
        """Start supervisord with the programs that ``fogmetrics run`` would write."""
        config = configuration.load(self.directory / "fogmetrics.toml", {})
        programs.write(self.directory, config, programs.all_sources(config))
        environ = {name: value for name, value in os.environ.items() if not name.startswith("FOGMETRICS_")}
        # The working directory is the copy's, so the packages must be found from elsewhere.
        environ |= {"PYTHONPATH": str(ROOT), **self.environ}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [find_program("supervisord"), "-n", "-c", self.directory / "supervisord.conf"],
                cwd=self.directory,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a signal to the test runner's group is not for it
            )

    @property
    def supervisord(self) -> subprocess.Popen[bytes]:
        """The supervisord that was started last."""
        assert self._process is not None, "not started"
        return self._process

    def stop(self) -> int:
        """SIGTERM, as a service manager does; the exit status."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(30)
        finally:
            if self._process.poll() is None:
                self._process.kill()  # its programs see that it is gone, and end by themselves
                self._process.wait()
            self._process = None

    def __enter__(self) -> Daemon:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            # All at once: by itself supervisord stops one program after the other, up to a second each.
            with contextlib.suppress(OSError, xmlrpc.client.Error):
                self.supervisor("stopAllProcesses")
            self.stop()
        if error is not None:
            print(self.logs())
        remove_files_of(self.namespace)

    # ---- what a user sees ----------------------------------------------------------------------------------

    def get(self, path: str, **headers: str) -> httpx.Response:
        return http_client.get(f"{self.url}{path}", headers=headers)

    def answers(self) -> bool:
        try:
            return self.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    def wait_until_collected(self, *sources: str) -> None:
        """Wait for a fresh frame of each of ``sources``, by default of all four."""

        def collected() -> bool:
            if not self.answers():
                return False
            found = self.get("/health").json()["sources"]
            return all(found.get(source, {}).get("status") == "fresh" for source in sources or SOURCES)

        wait_until(collected, 30, f"frames of {sources or SOURCES}")

    def supervisor(self, method: str, *arguments: object) -> Any:
        """Call a method of supervisord's XML-RPC interface, as supervisorctl does."""
        transport = SupervisorTransport(None, None, f"unix://{self.directory}/run/supervisor.sock")
        with xmlrpc.client.ServerProxy("http://127.0.0.1", transport) as proxy:
            return getattr(proxy.supervisor, method)(*arguments)

    def pid(self, program: str) -> int:
        return int(self.supervisor("getProcessInfo", program)["pid"])

    def states(self) -> dict[str, str]:
        return {one["name"]: one["statename"] for one in self.supervisor("getAllProcessInfo")}

    def logs(self) -> str:
        files = [self.log, *sorted((self.directory / "run" / "log").glob("*.log"))]
        return "\n".join(f"==> {path.name} <==\n{path.read_text()[-4000:]}" for path in files if path.exists())
