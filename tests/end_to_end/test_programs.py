"""Under the real supervisord: a program for what is on and for nothing else, and none that is started without end."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.frame.collector import MetricCollector
from collector.source import MetricSource, Sample
from shm.metric import Metric
from shm.ring.reader import RingReader
from tests.daemon import Daemon
from tests.programs import wait_until

pytestmark = pytest.mark.real


class Queue(MetricSource):
    name = "queue"
    metrics = (Metric("queue_depth", "gauge", "Jobs waiting, in jobs.", unit="jobs"),)

    def __init__(self, off: str = "") -> None:
        self.off = off

    def collect(self) -> list[Sample]:
        return [Sample("queue_depth", 3)]


def test_what_is_on_has_a_program_and_what_is_off_is_on_no_page_but_its_ring_is_readable(tmp_path: Path) -> None:
    toml = (
        "[source.betanet]\nenabled = false\n[source.deployment]\nenabled = false\n"
        f'[source.queue]\nclass = "{__name__}:Queue"\n'
    )
    daemon = Daemon(tmp_path, interval_seconds=0.3, toml=toml)
    with MetricCollector("betanet", namespace=daemon.namespace, capacity=8) as left:
        left.commit()
    with daemon:
        daemon.wait_until_collected("node", "system", "queue")
        wait_until(lambda: set(daemon.states().values()) == {"RUNNING"}, 10, "all programs past startsecs")
        assert sorted(daemon.states()) == ["exporter", "node", "queue", "system"]
        assert sorted(daemon.get("/health").json()["sources"]) == ["node", "queue", "system"]
        page = daemon.get("/metrics").text
        assert "\nqueue_depth 3.0\n" in page
        for off in ("betanet", "deployment"):
            assert f'source="{off}"' not in page
        with RingReader(daemon.namespace, "betanet") as reader:
            assert reader.newest_sequence() == 1
        assert daemon.get("/stats").json()["rings"]["betanet"]["frames"] == 1


def test_a_source_that_is_off_by_its_own_class_is_not_missed(tmp_path: Path) -> None:
    toml = (
        "[source.betanet]\nenabled = false\n[source.deployment]\nenabled = false\n"
        f'[source.queue]\nclass = "{__name__}:Queue"\noff = "no queue here"\n'
    )
    with Daemon(tmp_path, interval_seconds=0.3, toml=toml) as daemon:
        daemon.wait_until_collected("node", "system")
        wait_until(lambda: daemon.get("/health").json()["status"] == "ok", 10, "all programs past startsecs")
        assert sorted(daemon.states()) == ["exporter", "node", "system"]
        assert sorted(daemon.get("/health").json()["sources"]) == ["node", "system"]


@pytest.mark.parametrize("status", [0, 1, 75, 78, 127])
def test_a_program_that_fails_is_given_up_whatever_its_exit_status(tmp_path: Path, status: int) -> None:
    toml = "".join(f"[source.{name}]\nenabled = false\n" for name in ("deployment", "betanet", "system"))
    daemon = Daemon(tmp_path, toml=f"{toml}[source.host]\nenabled = true\n")
    conf = tmp_path / "supervisord.conf"
    conf.write_text(conf.read_text().replace("startretries = 10", "startretries = 2"))
    (tmp_path / "conf.d").mkdir()
    # It fails soon after its start, however slow this machine is.
    program = f"[program:host]\ncommand = sh -c 'exit {status}'\nstartsecs = 30\n"
    (tmp_path / "conf.d" / "host.conf").write_text(program)
    with daemon:
        daemon.wait_until_collected("node")
        wait_until(lambda: daemon.states()["host"] == "FATAL", 30, "the end of the retries")
        assert daemon.log.read_text().count("spawned: 'host'") == 3
        health = daemon.get("/health").json()
        assert health["sources"]["host"] == {"status": "missing"}
        assert health["status"] == "degraded"
        assert any(one.startswith("program host is FATAL after 3 starts: ") for one in health["problems"])


def test_the_programs_run_what_is_installed_whatever_the_directory_has(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    for package in ("collector", "exporter", "fogmetrics", "shm"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("raise SystemExit('what lies in the directory was run')\n")
    with daemon:
        daemon.wait_until_collected("node")
        assert "what lies in the directory" not in daemon.logs()
