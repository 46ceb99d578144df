"""The daemon as supervisord runs it: the eight cases, and that it starts and stops as it should."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from shm.files import DIRECTORY, ring_path
from tests.daemon import OFF, PROGRAMS, ROOT, SOURCES, STATES, Daemon
from tests.end_to_end.cases import CASES, Case, families
from tests.programs import wait_until
from tests.stand_ins.betanet import BetanetStandIn


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_case(daemon: Daemon, case: Case) -> None:
    assert case(daemon.url)


def test_the_smoke_script_passes_against_a_running_daemon_and_fails_against_none(daemon: Daemon) -> None:
    def smoke(url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tests.end_to_end.smoke", url], cwd=ROOT, capture_output=True, text=True, timeout=60
        )

    passed = smoke(daemon.url)
    assert passed.returncode == 0, passed.stdout + passed.stderr
    assert "8 passed, 0 failed" in passed.stdout
    failed = smoke("http://127.0.0.1:9")
    assert failed.returncode == 1
    assert "0 passed, 8 failed" in failed.stdout


def test_every_program_runs_and_none_restarts(daemon: Daemon) -> None:
    wait_until(lambda: daemon.states() == STATES, 10, "all programs past startsecs")
    assert "exited" not in daemon.log.read_text()


@pytest.mark.parametrize("name", OFF)
def test_a_source_that_is_off_has_no_program_and_is_on_no_page(daemon: Daemon, name: str) -> None:
    assert name not in daemon.log.read_text()
    assert not ring_path(daemon.namespace, name).exists()
    health = daemon.get("/health").json()
    assert sorted(health["sources"]) == sorted(SOURCES)
    assert f'source="{name}"' not in daemon.get("/metrics").text


def test_every_source_has_its_own_ring_of_the_configured_capacity(daemon: Daemon) -> None:
    rings = daemon.get("/stats").json()["rings"]
    assert sorted(rings) == sorted(SOURCES)
    assert {ring["capacity"] for ring in rings.values()} == {5760}
    for source in SOURCES:
        assert stat.S_IMODE(os.stat(ring_path(daemon.namespace, source)).st_mode) == 0o640


def test_rings_of_the_fifteen_metrics_take_less_than_six_mebibytes(daemon: Daemon) -> None:
    wait_until(lambda: daemon.get("/stats").json()["buffer_stats"]["betanet_latency"] > 0, 10, "a betanet sample")
    # What the files take, not what the exporter says of them.
    allocated = sum(os.stat(path).st_blocks * 512 for path in DIRECTORY.glob(f"fogmetrics.{daemon.namespace}.*"))
    assert allocated < 6 * 2**20
    assert daemon.get("/stats").json()["total_bytes"] <= allocated


def test_the_deployments_are_the_process_groups_of_our_supervisord(daemon: Daemon) -> None:
    def replicas() -> dict[str, float]:
        found = families(daemon.url, "/metrics")["deployment_replica_count"]
        return {sample.labels["deployment_id"]: sample.value for sample in found.samples}

    wanted = dict.fromkeys(PROGRAMS, 1.0)
    wait_until(lambda: replicas() == wanted, 10, "a replica of each group that runs")
    wait_until(lambda: "system_active_deployments 5.0" in daemon.get("/metrics").text, 10, "five active deployments")


@pytest.mark.real
def test_sigterm_stops_everything_and_leaves_the_rings(tmp_path: Path) -> None:
    with Daemon(tmp_path) as daemon:
        daemon.wait_until_collected("node", "system")
        pids = [daemon.pid(program) for program in PROGRAMS]
        assert daemon.stop() == 0
        for pid in pids:
            assert not Path(f"/proc/{pid}").exists()
        assert ring_path(daemon.namespace, "node").exists()
        for source in ("node", "system"):
            log = (tmp_path / "run" / "log" / f"{source}.log").read_text()
            assert "event=stopped" in log
            assert "Traceback" not in log


@pytest.mark.real
def test_betanet_is_followed_through_all_it_may_do(tmp_path: Path) -> None:
    with BetanetStandIn() as betanet:
        toml = (
            f'[source.betanet]\nurl = "{betanet.url}"\nrequest_timeout_seconds = 0.1\nmax_reply_bytes = 65536\n'
            "open_seconds = 0.5\n"
        )
        with Daemon(tmp_path, interval_seconds=0.2, toml=toml) as daemon:
            daemon.wait_until_collected()

            def up() -> bool:
                return 'collector_up{source="betanet"} 1.0' in daemon.get("/metrics").text

            def connections() -> bool:
                return "\nbetanet_connections " in daemon.get("/metrics").text

            wait_until(lambda: up() and connections(), 10, "Betanet up")
            pid = daemon.pid("betanet")
            for mode in ("slow", "failing"):
                betanet.mode = mode
                wait_until(lambda: not up() and not connections(), 10, f"Betanet down when {mode}")
                betanet.mode = "up"
                wait_until(lambda: up() and connections(), 10, f"Betanet up again after {mode}")
            betanet.mode = "half"
            wait_until(lambda: up() and not connections(), 10, "half of Betanet")
            assert "\nbetanet_packets_processed_total " in daemon.get("/metrics").text
            betanet.stop()
            wait_until(lambda: not up(), 10, "Betanet gone")
            assert 'collector_up{source="node"} 1.0' in daemon.get("/metrics").text
            wait_until(
                lambda: 'collector_circuit_state{source="betanet"} 2.0' in daemon.get("/metrics").text,
                10,
                "the circuit open",
            )
            betanet.start()
            betanet.mode = "up"
            wait_until(lambda: up() and connections(), 10, "Betanet back")
            assert daemon.pid("betanet") == pid
