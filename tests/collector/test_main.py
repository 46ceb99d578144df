"""``python -m collector`` as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from collector.__main__ import main
from collector.preflight import check_port, check_run_directory, where_to_look
from collector.preflight import main as preflight
from shm.config import Config, parse
from shm.errors import FogmetricsError
from shm.reader import RingReader
from shm.segment import ring_path
from tests.daemon import ROOT
from tests.programs import wait_until


@pytest.fixture
def toml(tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("FOGMETRICS_NAMESPACE", raising=False)
    path = tmp_path / "fogmetrics.toml"
    path.write_text(f'[shm]\nnamespace = "{namespace}"\n[collector]\ninterval_seconds = 0.2\n')
    return path


def start(toml: Path, name: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "collector", name, "--config", str(toml)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )


def frames(namespace: str, source: str) -> int:
    try:
        with RingReader(namespace, source) as reader:
            return reader.newest_sequence()
    except FogmetricsError:
        return 0


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_collector_ends_in_order_at_each_stop_signal_and_its_ring_stays(
    toml: Path, namespace: str, stop: signal.Signals
) -> None:
    process = start(toml, "node")
    wait_until(lambda: frames(namespace, "node") >= 3, 20, "three frames")
    process.send_signal(stop)
    _, log = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "event=stopped source=node" in log
    assert "Traceback" not in log
    with RingReader(namespace, "node") as reader:
        assert reader.writer.pid == 0
        assert reader.newest_sequence() >= 3


def test_a_light_worker_carries_neither_numpy_nor_asyncio_nor_httpx(toml: Path, namespace: str) -> None:
    for source in ("node", "system", "deployment"):
        process = start(toml, source)
        try:
            wait_until(lambda: frames(namespace, source) >= 1, 20, "a frame")  # noqa: B023 - called before the next
            maps = Path(f"/proc/{process.pid}/maps").read_text()
        finally:
            process.terminate()
            process.communicate(timeout=20)
        for heavy in ("numpy", "_asyncio", "httpx", "uvloop"):
            assert heavy not in maps, f"{source} carries {heavy}"


def test_once_prints_the_samples_and_writes_no_ring(
    toml: Path, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["system", "--once", "--config", str(toml)]) == 0
    assert capsys.readouterr().out.startswith("system_uptime ")
    assert not ring_path(namespace, "system").exists()


def test_once_of_a_source_that_is_down_says_why_and_exits_1(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml.write_text(toml.read_text() + '[source.betanet]\nurl = "http://127.0.0.1:9"\n')
    assert main(["betanet", "--once", "--config", str(toml)]) == 1
    assert "error: no connection to http://127.0.0.1:9" in capsys.readouterr().err


def test_unlink_removes_the_ring_on_purpose_but_not_under_a_writer(
    toml: Path, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    process = start(toml, "node")
    wait_until(lambda: frames(namespace, "node") >= 1, 20, "a frame")
    assert main(["node", "--unlink", "--config", str(toml)]) == 75
    assert f"process {process.pid} already writes to it" in capsys.readouterr().err
    process.terminate()
    process.communicate(timeout=20)
    assert ring_path(namespace, "node").exists()
    assert main(["node", "--unlink", "--config", str(toml)]) == 0
    assert capsys.readouterr().out == f"removed {ring_path(namespace, 'node')}\n"
    assert not ring_path(namespace, "node").exists()


def config(text: str) -> Config:
    return parse(text, Path("fogmetrics.toml"))


# ---- preflight -------------------------------------------------------------------------------------------------


def test_preflight_says_where_to_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = tmp_path / "fogmetrics.toml"
    toml.write_text("[exporter]\nport = 0\n")
    assert preflight([str(tmp_path), "--config", str(toml)]) == 0
    said = capsys.readouterr().out
    assert "/metrics/aggregated" in said
    assert str(tmp_path / "run" / "log") in said
    assert "http://localhost:9333/metrics " in where_to_look(config("[exporter]\nport = 9333\n"), tmp_path)


def test_preflight_refuses_what_any_of_the_processes_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = tmp_path / "fogmetrics.toml"
    for text, said in (
        ('[shm]\nnamespace = "a.b"\n', "namespace is 'a.b'"),
        ('[shm]\ngroup = "no-such-group"\n', "[shm] group is 'no-such-group'"),
        ('[shm]\nowner = "no-such-user"\n', "[shm] owner is 'no-such-user'"),
        ('[source.deployment]\nproviders = ["k8s"]\n', "providers"),
        ('[source.queue]\nclass = "nothing:Here"\n', "class 'nothing:Here'"),
        ('[exporter]\nlisten = "no such host"\n', "listen is 'no such host'"),
    ):
        toml.write_text(text)
        assert preflight([str(tmp_path), "--config", str(toml)]) == 78
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert said in err


def test_an_unwritable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the directory should be")
    with pytest.raises(FogmetricsError, match=r"run.* can't be made"):
        check_run_directory(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user without rights: run the tests as root")
def test_a_directory_that_this_user_may_not_write_to_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    code = (
        "import os, sys; os.setuid(65534); from pathlib import Path\n"
        "from collector.preflight import check_run_directory\n"
        "try: check_run_directory(Path(sys.argv[1]))\nexcept Exception as error: print(type(error).__name__, error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", f"import collector.preflight\n{code}", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.stdout.startswith("InTheWay "), run.stderr
    assert str(tmp_path / "run") in run.stdout
    assert "Permission denied" in run.stdout


def test_a_directory_whose_name_is_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with pytest.raises(FogmetricsError, match="clone to a directory with a shorter name"):
        check_run_directory(deep)


def test_a_free_port_is_no_trouble() -> None:
    check_port(config("[exporter]\nport = 0\n"))
