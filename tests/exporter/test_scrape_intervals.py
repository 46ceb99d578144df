"""Rates in a real Prometheus are right whether it scrapes more or less often than the source is collected.

Everything runs twenty times as fast as at the defaults: a frame each 0.75 s stands for one each 15 s.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator

import pytest

from collector.frame.collector import MetricCollector
from tests import http_client
from tests.exporter.test_main import exporter
from tests.programs import find_program, free_port, running, wait_until
from tests.prometheus import Prometheus
from tests.rings import remove_files_of

pytestmark = pytest.mark.real

FRAME_SECONDS = 0.75
SCRAPE_MS = (250, 500, 750, 1500)  # for 5, 10, 15 and 30 s
ODD_MS = 1000  # for 20 s: longer than a frame's, and no multiple
# Nothing was late for 20 s, as it is on a busy machine: of 26 frames, the last is not scraped yet; there are 13 scrapes
# of the slowest job; and no scrape took as long as the shortest interval.
UNDISTURBED = """
count_over_time(ticks_total{job="counters-250"}[20s]) >= 25
and on () min(count_over_time(ticks_total[20s])) >= 12
and on () max(max_over_time(scrape_duration_seconds[20s])) < 0.25
"""
RULES = """\
groups:
- name: rates
  interval: 100ms
  rules:
  - record: ticks:rate
    expr: rate(ticks_total{job="counters-500"}[6s])
  - record: ticks:rate_of_a_moment_ago
    expr: rate(ticks_total{job="counters-500"}[6s] offset 2s)
"""


class Scraped(Prometheus):
    """``until``: when it had scraped for 20 s; ``misfits``: what /health said of its intervals then."""

    until: float
    misfits: list[str]


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scraped]:
    """It has scraped a counter of one a second, with and without timestamps, for 20 s."""
    directory = tmp_path_factory.mktemp("intervals")
    namespace = f"intervals-{free_port()}"
    over = threading.Event()

    def collect(one: MetricCollector, phase: float) -> None:
        """A frame each FRAME_SECONDS, with the time that it was planned for: at this pace a busy machine is late by
        more of an interval than rate() puts up with. The counter has the time since the first.
        """
        first = planned = (time.time() // FRAME_SECONDS + 1) * FRAME_SECONDS + phase
        while not over.wait(max(planned - time.time(), 0)):
            one.record_metric("ticks_total", planned - first)
            one.commit(round(planned * 1e9))
            planned += FRAME_SECONDS

    with (
        MetricCollector("steady", 1000, FRAME_SECONDS, namespace=namespace) as one,
        exporter(namespace, directory) as (_, port),
    ):
        one.register_metric("ticks_total", "counter")
        (directory / "rules.yml").write_text(RULES)
        config = f"rule_files: ['{directory / 'rules.yml'}']\nscrape_configs:\n" + "".join(
            f"  - job_name: {timestamps}-{every}\n    scrape_interval: {every}ms\n    scrape_timeout: {every}ms\n"
            f"    params: {{timestamps: [{timestamps}], 'name[]': [ticks_total]}}\n"
            f"    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
            for every in (*SCRAPE_MS, ODD_MS)
            for timestamps in ("counters", "none")
            if (timestamps, every) != ("none", ODD_MS)
        )
        (directory / "prometheus.yml").write_text(config)
        own_port, log_path = free_port(), directory / "prometheus.log"
        command = [
            find_program("prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{own_port}",
        ]
        with running(command, log_path):
            found = Scraped(f"http://127.0.0.1:{own_port}", log_path)
            wait_until(lambda: found.is_there() and len(found.query("up == 1")) == 9, 20, "a scrape of each job")
            collecting = threading.Thread(target=collect, args=(one, quiet_phase(found)))
            collecting.start()
            try:
                wait_until(lambda: found.query(UNDISTURBED), 80, "20 s without a late frame or scrape")
                found.until = time.time()
                found.misfits = http_client.get(f"http://127.0.0.1:{port}/health").json()["scrape_intervals"]
                yield found
            finally:
                over.set()
                collecting.join()
    remove_files_of(namespace)


def quiet_phase(prometheus: Prometheus) -> float:
    """Of the frames: far from the scrapes of the jobs at their interval, and at twice as much. Where the two meet, a
    scrape misses a frame, as chance has it.
    """
    times = prometheus.values('timestamp(up{job=~"counters-(750|1500)"})').values()
    phases = [FRAME_SECONDS * eighth / 8 for eighth in range(8)]
    return max(
        phases,
        key=lambda one: min(abs((one - at + FRAME_SECONDS / 2) % FRAME_SECONDS - FRAME_SECONDS / 2) for at in times),
    )


def errors(prometheus: Scraped, job: str, query: str) -> list[float]:
    """How far each point of 8 s is from 1 a second."""
    start, end = f"{prometheus.until - 10}", f"{prometheus.until - 2}"
    series = prometheus.api("query_range", query=query.format(job), start=start, end=end, step="0.1")
    [one] = series["result"]
    return [abs(float(value) - 1) for _, value in one["values"]]


@pytest.mark.parametrize("every", SCRAPE_MS)
@pytest.mark.parametrize("query", ['irate(ticks_total{{job="{}"}}[4s])', 'rate(ticks_total{{job="{}"}}[6s])'])
def test_rates_are_right_within_a_hundredth(prometheus: Scraped, every: int, query: str) -> None:
    found = errors(prometheus, f"counters-{every}", query)
    assert len(found) > 50
    assert max(found) < 0.01


def test_without_timestamps_they_are_not(prometheus: Scraped) -> None:
    """What the timestamps are for: each point is wrong, between nothing and thrice the rate."""
    assert max(errors(prometheus, "none-250", 'irate(ticks_total{{job="{}"}}[4s])')) > 0.5


def test_where_frames_are_missed_now_and_then_they_are_not(prometheus: Scraped) -> None:
    assert max(errors(prometheus, f"counters-{ODD_MS}", 'rate(ticks_total{{job="{}"}}[4s])')) > 0.1


def test_the_exporter_names_the_intervals_of_the_jobs_whose_rates_are_wrong(prometheus: Scraped) -> None:
    pattern = r"scrapes every (\S+) s, but frames of steady come every 0.75 s:"
    said = [re.findall(pattern, one) for one in prometheus.misfits]
    assert sorted(float(every) for [every] in said) == pytest.approx([0.25, 0.5, 1], rel=0.2)


def test_rates_in_rules_are_right_of_a_moment_ago(prometheus: Scraped) -> None:
    """A rule meets a frame only after the next scrape; a graph of the past can't tell the difference."""

    def recorded(name: str) -> list[float]:
        [one] = prometheus.api("query", query=f"{name}[8s]", time=f"{prometheus.until}")["result"]
        return [abs(float(value) - 1) for _, value in one["values"]]

    assert max(recorded("ticks:rate")) > 0.03
    assert max(recorded("ticks:rate_of_a_moment_ago")) < 0.01


def test_a_sample_that_comes_again_is_no_error(prometheus: Scraped) -> None:
    for error in ("out_of_order", "duplicate_timestamp", "out_of_bounds"):
        name = f"prometheus_target_scrapes_sample_{error}_total"
        assert f"{name} 0\n" in prometheus.own_metrics()
