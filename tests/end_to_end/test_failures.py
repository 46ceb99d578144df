"""Failure as a user meets it: processes killed, a supervisord killed, a configuration that is wrong."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from collector.frame.collector import MetricCollector
from shm.files import DIRECTORY, ring_path
from shm.ring.reader import RingReader
from tests.daemon import PROGRAMS, ROOT, SOURCES, STATES, Daemon
from tests.programs import free_port, wait_until

pytestmark = pytest.mark.real


def _sequences(daemon: Daemon) -> dict[str, int]:
    return {name: ring["sequence"] for name, ring in daemon.get("/stats").json()["rings"].items()}


def test_a_removed_ring_is_published_again_with_its_history_and_without_a_restart(tmp_path: Path) -> None:
    with Daemon(tmp_path, interval_seconds=0.3) as daemon:
        daemon.wait_until_collected()
        pid = daemon.pid("node")
        before = _sequences(daemon)["node"]
        ring_path(daemon.namespace, "node").unlink()
        wait_until(lambda: _sequences(daemon).get("node", 0) > before + 2, 20, "the ring again")
        assert daemon.get("/stats").json()["rings"]["node"]["frames"] > before
        assert daemon.pid("node") == pid


def test_when_all_files_are_removed_the_collectors_begin_anew_by_themselves(tmp_path: Path) -> None:
    with Daemon(tmp_path, interval_seconds=0.3) as daemon:
        daemon.wait_until_collected()
        wait_until(lambda: daemon.states() == STATES, 20, "all programs past startsecs")
        for path in DIRECTORY.glob(f"fogmetrics.{daemon.namespace}.*"):
            path.unlink()
        daemon.wait_until_collected()
        assert "was removed; don't clean" in (tmp_path / "run" / "log" / "node.log").read_text()


def test_a_killed_exporter_serves_a_whole_day_again(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        now_ns, monotonic_ns = time.time_ns(), time.monotonic_ns()
        with MetricCollector("day", namespace=daemon.namespace) as day:
            day.register_metric("day_frame", "gauge", help="The number of the frame.")
            for frame in range(1, 5761):
                age_ns = (5760 - frame) * 15_000_000_000
                day.record_metric("day_frame", frame)
                day.commit(now_ns - age_ns, monotonic_ns - age_ns)
        daemon.wait_until_collected("node")
        before = daemon.get("/metrics/aggregated?window=24h&metric=day_frame").text
        pid = daemon.pid("exporter")
        os.kill(pid, signal.SIGKILL)
        wait_until(daemon.answers, 20, "the exporter back")
        after = daemon.get("/metrics/aggregated?window=24h&metric=day_frame").text
        # The four oldest frames are the guard: they may be lapped while they are read.
        assert 'day_frame{stat="min"} 5.0\n' in after
        assert 'day_frame{stat="max"} 5760.0\n' in after
        assert 'day_frame{stat="p95"} 5473.0\n' in after
        assert after == before


def test_the_collectors_go_on_while_there_is_no_exporter(tmp_path: Path) -> None:
    with Daemon(tmp_path, interval_seconds=0.3) as daemon:
        daemon.wait_until_collected()
        daemon.supervisor("stopProcess", "exporter")
        with RingReader(daemon.namespace, "node") as reader:
            before = reader.newest_sequence()
            wait_until(lambda: reader.newest_sequence() >= before + 3, 10, "three more frames")
        daemon.supervisor("startProcess", "exporter")
        wait_until(daemon.answers, 10, "the exporter")
        assert daemon.get("/stats").json()["rings"]["node"]["frames"] >= before + 3


def test_after_a_killed_supervisord_its_processes_end_and_a_new_one_takes_up_the_rings(tmp_path: Path) -> None:
    with Daemon(tmp_path, interval_seconds=0.3) as daemon:
        daemon.wait_until_collected()
        pids = [daemon.pid(program) for program in PROGRAMS]
        before = _sequences(daemon)
        daemon.supervisord.kill()
        daemon.supervisord.wait()
        wait_until(lambda: not any(_runs(pid) for pid in pids), 20, "the end of its processes")
        daemon.start()
        daemon.wait_until_collected()
        # Not by what is fresh: it starts so soon that the frames before it still are.
        wait_until(
            lambda: all(_sequences(daemon)[source] > before[source] for source in SOURCES), 20, "frames behind those"
        )


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def _run(config: Path, *module: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *module, "--config", str(config)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)


def test_a_configuration_error_is_one_message_that_names_key_value_and_remedy(tmp_path: Path) -> None:
    path = tmp_path / "fogmetrics.toml"
    path.write_text("[collector]\ninterval_secnods = 5\n")
    for module in (["collector", "node"], ["exporter"], ["fogmetrics.cli.check", str(tmp_path)]):
        run = _run(path, *module)
        assert run.returncode == 78
        assert run.stderr.count("\n") == 1
        assert f"{path}: [collector] has no key 'interval_secnods'; did you mean 'interval_seconds'?" in run.stderr


def test_a_taken_port_is_one_message_that_says_how_to_have_another(tmp_path: Path) -> None:
    port = free_port()
    path = tmp_path / "fogmetrics.toml"
    path.write_text(f"[exporter]\nport = {port}\n")
    with socket.create_server(("127.0.0.1", port)):
        for module in (["exporter"], ["fogmetrics.cli.check", str(tmp_path)]):
            run = _run(path, *module)
            assert run.returncode == 75
            assert run.stderr.count("\n") == 1
            assert f"port {port}" in run.stderr
            assert f"port = {port + 1}" in run.stderr


def test_a_second_supervisord_is_told_that_one_runs_already_and_a_check_succeeds(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        daemon.wait_until_collected("node")
        run = _run(tmp_path / "fogmetrics.toml", "fogmetrics", "run", str(tmp_path))
        assert run.returncode == 75
        assert "it runs already" in run.stderr
        assert f"supervisorctl -c {tmp_path}/supervisord.conf shutdown" in run.stderr
        check = _run(tmp_path / "fogmetrics.toml", "fogmetrics", "check", str(tmp_path))
        assert (check.returncode, check.stderr) == (0, "")
        assert check.stdout.startswith("fogmetrics: SUCCESS: ")
