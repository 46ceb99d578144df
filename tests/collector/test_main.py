"""``python -m collector`` as a user runs it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from collector.__main__ import main
from shm.errors import FogmetricsError
from shm.reader import RingReader
from shm.segment import ring_path
from tests.daemon import ROOT
from tests.programs import wait_until
from tests.rings import files_of

ONCE = """
from collector.source import MetricSource, Sample
from shm.catalog import Metric


class Once(MetricSource):
    name = "once"
    metrics = (Metric("depth", "gauge", "Jobs.", "jobs", ("queue",)),)

    def collect(self):
        good = {"queue": "a"}
        return [
            Sample("depth", 1, good), Sample("depth", 1, {"queue": 7}),
            Sample("width", 1), Sample("depth", 1, good, 1e13),
        ]
"""


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


def test_once_of_a_source_that_raises_says_why_and_exits_1(
    toml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml.write_text(toml.read_text() + f'[source.system]\nproc = "{tmp_path / "nope"}"\n')
    assert main(["system", "--once", "--config", str(toml)]) == 1
    assert capsys.readouterr().err.startswith("error: FileNotFoundError: ")


def test_once_tells_of_samples_that_the_daemon_would_refuse(
    toml: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "own_once.py").write_text(ONCE)
    monkeypatch.syspath_prepend(tmp_path)
    toml.write_text(toml.read_text() + '[source.once]\nclass = "own_once:Once"\n')
    assert main(["once", "--once", "--config", str(toml)]) == 1
    out, err = capsys.readouterr()
    assert out == 'depth{queue="a"} 1\n'
    assert err.count("error: ") == 3
    for words in ("is 7, a int", "metric 'width' is not among", "give Unix seconds"):
        assert words in err


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


def test_unlink_of_what_is_not_there_says_so_and_leaves_nothing_behind(
    toml: Path, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["nod", "--unlink", "--config", str(toml)]) == 0
    assert capsys.readouterr().err == f"there is nothing of a source 'nod' in namespace '{namespace}'\n"
    assert files_of(namespace) == []
    assert main(["*", "--unlink", "--config", str(toml)]) == 78


def test_a_snapshot_dir_that_can_not_be_meant_is_a_mistake_in_the_configuration(
    toml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml.write_text(toml.read_text().replace("[shm]\n", '[shm]\nsnapshot_dir = "~/snapshots"\n'))
    assert main(["node", "--config", str(toml)]) == 78
    assert "[shm] snapshot_dir is '~/snapshots', and nothing stands for ~" in capsys.readouterr().err
