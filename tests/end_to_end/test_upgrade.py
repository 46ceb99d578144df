"""An upgrade and its undoing, by the wheels of two versions, on a daemon that runs in an environment of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from exporter.applications import ApplicationSet
from shm import VERSION
from shm.files import DIRECTORY
from tests import http_client
from tests.packages import PRODUCT
from tests.programs import Program, free_port, listens, running, wait_until
from tests.rings import namespace as namespace
from tests.rings import remove_files_of
from tests.wheels import Environment, build, replace, write_modules

pytestmark = pytest.mark.real

NEXT = "99.0.0"
HELP = "CPU time not idle over the last interval"


def next_version(tree: Path) -> None:
    """The tree of the next release: another version, and a collector whose samples have another help."""
    replace(tree / "shm" / "__init__.py", f'VERSION = "{VERSION}"', f'VERSION = "{NEXT}"')
    replace(tree / "collector" / "metrics.py", HELP, f"{HELP} in the next release")


def next_layout(tree: Path) -> None:
    next_version(tree)
    for kind in ("ring/layout.py", "table/format.py"):
        replace(tree / "shm" / kind, "LAYOUT_VERSION: Final = 1", "LAYOUT_VERSION: Final = 2")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


class Installed:
    """A daemon of an installed release; its directory is as ``fogmetrics init`` writes it."""

    def __init__(self, directory: Path, wheel: Path) -> None:
        self.namespace = f"upgrade-{os.getpid()}"
        self.directory = directory / "d"
        self.environment = Environment(directory / "venv")
        self.environment.install(wheel)
        # What people type: a link to the environment in use.
        self.link = directory / "current"
        self.link.symlink_to("venv")
        self.environment.run("fogmetrics", "init", self.directory).check_returncode()
        # Programs that run are known as such sooner.
        replace(self.directory / "supervisord.conf", "startsecs = 5", "startsecs = 1")
        self._port = free_port()
        (self.directory / "fogmetrics.toml").write_text(
            f'[shm]\nnamespace = "{self.namespace}"\n[collector]\ninterval_seconds = 0.2\n'
            f"[exporter]\nport = {self._port}\n[source.betanet]\nenabled = false\n"
        )
        write_modules(directory, *PRODUCT)
        self._work = directory

    @contextlib.contextmanager
    def runs(self) -> Iterator[Program]:
        command = [str(self.link / "bin" / "fogmetrics"), "run", str(self.directory)]
        with running(command, self._work / "log", cwd=self._work) as one:
            one.wait_until(lambda: "fogmetrics runs: " in one.log(), 60, "all programs")
            yield one

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.environment.run("fogmetrics", *arguments, self.directory, cwd=self._work)

    def page(self, path: str) -> str:
        """That page, as soon as an exporter listens."""
        wait_until(lambda: listens(self._port), 30, "the exporter listening")
        return http_client.get(f"http://127.0.0.1:{self._port}{path}").text

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.page("/stats"))
        return found

    def health(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.page("/health"))
        return found

    def frames_after(self, sequence: int) -> int:
        """Wait for frames of the node's ring behind that sequence; the newest one's."""
        return wait_until(lambda: (now := self.sequence()) > sequence + 3 and now, 30, "further frames")

    def sequence(self) -> int:
        return int(self.stats()["rings"].get("node", {}).get("sequence", 0))

    def exporter_version(self) -> str:
        found = re.search(r'exporter_build_info\{version="(.+?)"\}', self.page("/metrics"))
        assert found
        return found[1]

    def node_help(self) -> str:
        found = re.search(r"# HELP node_cpu_usage (.*)", self.page("/metrics"))
        return found[1] if found else ""

    def first_in_window(self) -> float:
        """The time of the first frame in the window of /metrics/aggregated."""
        page = self.page("/metrics/aggregated?window=1h")
        found = re.search(r'exporter_window_first_timestamp_seconds\{source="node"\} (\S+)', page)
        assert found
        return float(found[1])


@pytest.fixture
def daemon(tmp_path: Path, wheel: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installed]:
    for name in ("FOGMETRICS_CONFIG", "FOGMETRICS_NAMESPACE", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    one = Installed(tmp_path, wheel)
    try:
        yield one
    finally:
        remove_files_of(one.namespace)


def test_an_upgrade_and_its_undoing_keep_the_history(daemon: Installed, wheel: Path, tmp_path: Path) -> None:
    newer = build(tmp_path / "newer", next_version)
    install = daemon.environment.install
    with daemon.runs():
        # As pip does before it installs. What runs needs none of the files, not even for its first page of a kind.
        daemon.environment.uninstall()
        sequence = daemon.frames_after(0)
        first = daemon.first_in_window()
        assert {"node", "system"} < daemon.health()["sources"].keys()
        install(newer)
        sequence = daemon.frames_after(sequence)
        assert daemon.exporter_version() == VERSION
        assert (
            "The configuration or the version has changed since the programs started" in daemon.command("status").stdout
        )
        # A collector that ends now comes back as the new one, beside an exporter of the old one.
        os.kill(daemon.stats()["rings"]["node"]["writer_pid"], signal.SIGKILL)
        wait_until(lambda: "next release" in daemon.node_help(), 30, "the new collector's samples")
        sequence = daemon.frames_after(sequence)
        assert daemon.exporter_version() == VERSION
    with daemon.runs():
        assert daemon.exporter_version() == NEXT
        sequence = daemon.frames_after(sequence)
        assert daemon.first_in_window() == first
        assert daemon.command("status").returncode == 0
        # The undoing, this time without an end of supervisord.
        install(wheel)
        done = daemon.command("reload")
        assert sorted(done.stdout.splitlines()[:4]) == [
            f"{name}: restarted" for name in ("deployment", "exporter", "node", "system")
        ], done
        wait_until(lambda: daemon.exporter_version() == VERSION, 30, "the old exporter")
        daemon.frames_after(sequence)
        assert "next release" not in daemon.node_help()
        assert daemon.first_in_window() == first


def test_a_release_of_another_layout_in_an_environment_beside_sets_the_history_aside_where_its_undoing_finds_it(
    daemon: Installed, tmp_path: Path
) -> None:
    newer = build(tmp_path / "newer", next_layout)
    ring = DIRECTORY / f"fogmetrics.{daemon.namespace}.node.ring"
    with daemon.runs():
        sequence = daemon.frames_after(0)
        first = daemon.first_in_window()
    Environment(tmp_path / "venv-next").install(newer)
    daemon.link.unlink()
    daemon.link.symlink_to("venv-next")
    with daemon.runs():
        assert daemon.exporter_version() == NEXT
        daemon.frames_after(0)
        assert daemon.first_in_window() > first
    assert ring.with_suffix(".layout-1").exists()
    daemon.link.unlink()
    daemon.link.symlink_to("venv")
    for aside in DIRECTORY.glob(f"fogmetrics.{daemon.namespace}.*.layout-1"):
        aside.rename(aside.with_suffix(".ring"))
    with daemon.runs():
        daemon.frames_after(sequence)
        assert daemon.first_in_window() == first


COUNT = """
import sys, time
from fogmetrics import SharedCollector
web = SharedCollector("web")
web.register_metric("jobs", "counter")
web.increment("jobs", float(sys.argv[1]))
time.sleep(100)
"""


def test_processes_of_two_releases_add_up_and_one_of_another_layout_is_named(
    tmp_path: Path, wheel: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOGMETRICS_NAMESPACE", namespace)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    wheels = [wheel, build(tmp_path / "2", next_version), build(tmp_path / "3", next_layout)]
    found = ApplicationSet(namespace, {os.geteuid()})
    with contextlib.ExitStack() as stack:
        stack.callback(found.close)
        for i, one in enumerate(wheels):
            environment = Environment(tmp_path / f"venv{i}", "xxhash")
            environment.install(one)
            command = [str(environment.bin / "python"), "-c", COUNT, str(10**i)]
            stack.enter_context(running(command, tmp_path / f"log{i}", cwd=tmp_path))
        wait_until(lambda: len(list(DIRECTORY.glob(f"fogmetrics.{namespace}.web.*.table"))) == 3, 30, "three tables")
        wait_until(lambda: found.refresh()[0].latest.tolist() == [11.0], 30, "the sum of two")
        assert "layout version is 2, this program reads 1; run the same release on both sides" in found.errors()["web"]
