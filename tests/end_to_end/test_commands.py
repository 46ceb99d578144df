"""The commands on a daemon that runs: run, status, reload."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fogmetrics.cli.init import write as init
from fogmetrics.cli.main import main
from tests.daemon import Daemon
from tests.programs import free_port, running, wait_until
from tests.rings import remove_files_of

pytestmark = pytest.mark.real

NO_BETANET = "[source.betanet]\nenabled = false\n"


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Daemon]:
    """A daemon in which nothing is wrong."""
    monkeypatch.delenv("FOGMETRICS_CONFIG", raising=False)
    monkeypatch.delenv("FOGMETRICS_NAMESPACE", raising=False)
    with Daemon(tmp_path, interval_seconds=0.3, toml=NO_BETANET) as running:
        running.wait_until_collected("node", "system", "deployment")
        wait_until(lambda: set(running.states().values()) == {"RUNNING"}, 20, "all programs past startsecs")
        yield running


def add(daemon: Daemon, text: str) -> None:
    """More of the daemon's configuration."""
    with (daemon.directory / "fogmetrics.toml").open("a") as file:
        file.write(text)


def pids(daemon: Daemon) -> dict[str, int]:
    return {name: daemon.pid(name) for name in daemon.states()}


def test_run_is_a_supervisord_that_says_what_runs_and_a_second_one_of_its_rings_is_refused(tmp_path: Path) -> None:
    namespace = f"commands-{os.getpid()}"
    environ = {"FOGMETRICS_CONFIG": "", "FOGMETRICS_NAMESPACE": namespace}
    first, second = tmp_path / "1", tmp_path / "2"  # the path of a Unix socket is short
    for directory in (first, second):
        init(directory)
        (directory / "fogmetrics.toml").write_text(f"[exporter]\nport = {free_port()}\n{NO_BETANET}")
    command = [sys.executable, "-m", "fogmetrics", "run"]
    try:
        with running([*command, first], tmp_path / "log", env=environ) as program:
            said = "fogmetrics runs: deployment, exporter, node, system\n"
            program.wait_until(lambda: said in program.log(), 40, "the line of what runs")
            assert "is valid; on: node, deployment, system; off: betanet" in program.log()
            assert "\nfogmetrics starts; look at\n" in program.log()
            assert "CRIT" not in program.log()
            refused = subprocess.run(
                [*command, second], env={**os.environ, **environ}, capture_output=True, text=True, timeout=60
            )
            assert refused.returncode == 75
            assert f"collects 'node' for namespace '{namespace}' already" in refused.stderr
            program.process.terminate()
            assert program.process.wait(30) == 0
    finally:
        remove_files_of(namespace)


def test_status_says_whether_all_is_well_and_how_often_each_program_was_started(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    def status() -> tuple[int, dict[str, list[str]]]:
        code = main(["status", str(daemon.directory)])
        lines = capsys.readouterr().out.splitlines()
        return code, {line.split()[0]: line.split() for line in lines[1:]}

    code, shown = status()
    assert code == 0, shown
    assert sorted(shown) == sorted([*daemon.states(), "applications", "betanet", "host", "textfile"])
    assert shown["betanet"] == ["betanet", "off"]
    os.kill(daemon.pid("node"), 9)
    wait_until(lambda: status()[1]["node"][4] == "2", 20, "node started again")
    wait_until(lambda: status()[0] == 0, 20, "node back")
    daemon.supervisor("stopProcess", "node")
    code, shown = status()
    assert code == 1
    assert " ".join(shown["node"]).endswith("it is stopped")
    daemon.supervisor("startProcess", "node")
    wait_until(lambda: status()[0] == 0, 20, "node back")
    add(daemon, "[source.system]\ninterval_seconds = 1\n")
    code, shown = status()
    assert code == 1
    assert " ".join(shown["The"]).startswith("The configuration or the version has changed")


def test_reload_concerns_the_programs_whose_configuration_has_changed_and_no_other(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    reload = ["reload", str(daemon.directory)]
    before = pids(daemon)
    assert main(reload) == 0
    assert capsys.readouterr().out == "nothing has changed\nfogmetrics runs: deployment, exporter, node, system\n"
    add(daemon, "[source.host]\nenabled = true\n[source.deployment]\nenabled = false\n[source.system]\ncapacity = 99\n")
    assert main(reload) == 0
    said = capsys.readouterr().out.splitlines()
    # What is off concerns the exporter, which has it on no page, and takes it over without a restart.
    assert said[:4] == [
        "deployment: stopped", "system: restarted", "host: started", "exporter: reread its configuration",
    ]  # fmt: skip
    after = pids(daemon)
    assert after["exporter"] == before["exporter"]
    assert sorted(after) == ["exporter", "host", "node", "system"]
    assert after["node"] == before["node"]
    assert after["system"] != before["system"]
    daemon.wait_until_collected("host", "node", "system")
    assert daemon.get("/stats").json()["rings"]["system"]["capacity"] == 99
    assert "deployment" not in daemon.get("/health").json()["sources"]
    add(daemon, "[applications]\nlabel = 'app'\n")
    assert main(reload) == 0
    assert "exporter: restarted" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("fogmetrics.toml", "[source.node]\nnode_ib = 1\n", "[source.node] has no key 'node_ib'"),
        ("fogmetrics.toml", "[source.queue]\nclass = 'nothing:Here'\n", "class 'nothing:Here' can't be made"),
        ("conf.d/own.conf", "[program:own]\n", "does not specify a command"),
        ("supervisord.conf", "[program:own]\ncommand = true\nstartsecs = soon\n", "in section 'program:own'"),
    ],
)
def test_a_bad_file_changes_nothing_and_says_why(
    daemon: Daemon, name: str, text: str, said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    before, written = pids(daemon), (daemon.directory / "run" / "programs.conf").read_text()
    if name != "fogmetrics.toml":
        add(daemon, "[source.system]\ninterval_seconds = 1\n")
    path = daemon.directory / name
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + text)
    assert main(["reload", str(daemon.directory)]) == 78
    error = capfd.readouterr().err
    assert said in error
    assert "nothing was changed" in error
    assert pids(daemon) == before
    assert (daemon.directory / "run" / "programs.conf").read_text() == written


def test_reload_starts_again_what_was_given_up(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    daemon.supervisor("stopProcess", "system")
    own = daemon.directory / "conf.d" / "own.conf"
    own.parent.mkdir()
    own.write_text("[program:own]\ncommand = sh -c 'test -e mended && exec sleep 1000'\nstartretries = 0\n")
    assert main(["reload", str(daemon.directory)]) == 1
    assert "own: started\n" in capsys.readouterr().out
    wait_until(lambda: daemon.states()["own"] == "FATAL", 10, "the end of its retries")
    (daemon.directory / "mended").touch()
    main(["reload", str(daemon.directory)])
    assert "own: started again\n" in capsys.readouterr().out
    assert daemon.states()["own"] == "RUNNING"
    (daemon.directory / "mended").unlink()
    own.write_text(own.read_text().replace("startretries = 0", "startretries = 1000"))
    assert main(["reload", str(daemon.directory)]) == 1
    assert daemon.states()["own"] in ("BACKOFF", "STARTING")
    (daemon.directory / "mended").touch()
    main(["reload", str(daemon.directory)])
    assert daemon.states()["own"] == "RUNNING"
    assert "own does not run" not in capsys.readouterr().out.rpartition("own: started again\n")[2]
    assert daemon.states()["system"] == "STOPPED"  # by hand
