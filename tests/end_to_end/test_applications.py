"""Applications in the whole daemon: live on /metrics, with a history behind it, whoever dies."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.application import Process
from tests.daemon import Daemon
from tests.end_to_end.cases import families
from tests.programs import wait_until

pytestmark = pytest.mark.real

BEGIN = (
    "from collector.frame.collector import MetricCollector; collector = MetricCollector.shared('web'); "
    "collector.register_metric('web_jobs', 'counter', help='Jobs.', label_names=('queue',)); "
    "collector.register_metric('web_busy', 'gauge', help='Busy.'); "
    "collector.register_metric('web_seconds', 'histogram', help='Time.', buckets=(1.0, 2.0))"
)
COUNT = (
    "collector.increment('web_jobs', {amount}, {{'queue': 'mail'}}); collector.record_metric('web_busy', {amount}); "
    "collector.record_metric('web_seconds', 1.5)"
)
OVER = "/metrics/aggregated?window=1m&source[]=applications"


def _samples(daemon: Daemon, path: str = "/metrics") -> dict[tuple[str, ...], float]:
    """By name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in families(daemon.url, path).values()
        for sample in family.samples
    }


def _sequence(daemon: Daemon) -> int:
    """How many frames the applications' history has had."""
    return int(daemon.get("/stats").json()["rings"]["applications"]["sequence"])


def test_an_application_is_on_every_page_and_its_counts_outlive_everybody(tmp_path: Path) -> None:
    daemon = Daemon(
        tmp_path, interval_seconds=0.3, toml='[source.applications]\nenabled = true\n[applications]\nlabel = ""\n'
    )
    with Process(daemon.namespace, BEGIN) as one, Process(daemon.namespace, BEGIN) as two:
        # Before the daemon begins, so that no frame has the one's alone.
        one.do(COUNT.format(amount=2))
        two.do(COUNT.format(amount=3))
        with daemon:
            daemon.wait_until_collected("applications")
            found = _samples(daemon)
            assert (found["web_jobs_total", "mail"], found["web_busy",]) == (5, 5)
            assert found["web_seconds_bucket", "2.0"] == found["web_seconds_count",] == 2
            assert found["exporter_application_processes", "web"] == 2
            wait_until(lambda: ("web_busy", "p95") in _samples(daemon, OVER), 10, "a frame of the application")
            before = _sequence(daemon)
            one.do(COUNT.format(amount=4))
            assert _samples(daemon)["web_jobs_total", "mail"] == 9  # at once: nobody waits for a tick
            wait_until(lambda: _sequence(daemon) > before + 1, 10, "more frames")
            over = _samples(daemon, OVER)
            assert over["web_jobs", "mail", "increase"] == 4
            assert (over["web_busy", "min"], over["web_busy", "max"]) == (5, 7)
            assert over["web_seconds", "p95"] == pytest.approx(1.95)
            # The history's program is restarted: the pages go on as they were.
            os.kill(daemon.pid("applications"), signal.SIGKILL)
            two.kill()
            before = _sequence(daemon)
            found = _samples(daemon)
            assert (found["web_jobs_total", "mail"], found["web_busy",]) == (9, 4)
            wait_until(lambda: _sequence(daemon) > before, 10, "a frame of the program's successor")
            one.end()
            wait_until(
                lambda: daemon.get("/stats").json()["applications"]["web"]["tables"] == 1, 10, "the dead's memory back"
            )
            found = _samples(daemon)
            assert found["web_jobs_total", "mail"] == 9
            assert ("web_busy",) not in found
            assert _samples(daemon, OVER)["web_busy", "max"] == 7
            assert found["collector_errors_total", "applications"] == 0
            processes = "collector_application_processes", "web"
            wait_until(lambda: _samples(daemon).get(processes) == 0, 10, "a frame without any")
