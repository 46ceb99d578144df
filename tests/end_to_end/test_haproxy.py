"""The four deployment metrics of a real HAProxy, checked against the traffic that the test itself sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from shm.metric import Series
from shm.ring.reader import Frames, RingReader
from tests.daemon import Daemon
from tests.end_to_end.cases import families
from tests.haproxy import HaproxyBefore
from tests.programs import wait_until

pytestmark = pytest.mark.real


@pytest.mark.parametrize("over", ["socket", "http"])
def test_the_deployment_metrics_add_up_to_the_traffic(tmp_path: Path, over: str) -> None:
    with HaproxyBefore(tmp_path) as haproxy:
        url = haproxy.stats_url if over == "socket" else haproxy.http_stats_url
        toml = (
            f'[source.deployment]\nproviders = ["haproxy"]\nhaproxy_url = "{url}"\nhaproxy_exclude = ["statistics"]\n'
        )
        with Daemon(tmp_path, interval_seconds=0.3, toml=toml) as daemon:
            daemon.wait_until_collected("deployment")
            wait_until(lambda: "deployment_request_rate" in daemon.get("/metrics").text, 10, "a baseline")
            with RingReader(daemon.namespace, "deployment") as reader:
                begun = reader.newest_sequence()
            answers = haproxy.request(200)
            assert answers == {200: 100, 500: 100}
            # Two more frames, so that the last requests are in one of them.
            wait_until(lambda: _sequence(daemon) >= begun + 3, 20, "frames after the traffic")
            wait_until(lambda: _rate_now(daemon) == 0, 20, "the end of the traffic")
            with RingReader(daemon.namespace, "deployment") as reader:
                series = {one.metric.name: one for one in reader.catalog.series if one.label_values == ("web",)}
                frames = reader.frames()

            assert set(series) == {
                "deployment_replica_count",
                "deployment_request_rate",
                "deployment_error_rate",
                "deployment_latency",
            }
            # Rate × elapsed time gives back the number of requests: to some percent, since a frame's time is that of
            # its tick and a rate's that of the reading. tests/collector/sources/deployment has the exact sum.
            assert _total(frames, series["deployment_request_rate"], begun) == pytest.approx(200, rel=0.1)
            assert _total(frames, series["deployment_error_rate"], begun) == pytest.approx(100, rel=0.1)
            assert _last(frames, series["deployment_replica_count"]) == 2

            page = families(daemon.url, "/metrics")
            count = next(one.value for one in page["deployment_latency"].samples if one.name.endswith("_count"))
            column = series["deployment_latency"].column
            held = [value for value in frames.values[:, column].tolist() if value == value]
            assert count == len(held) > 0
            total = next(one.value for one in page["deployment_latency"].samples if one.name.endswith("_sum"))
            assert total == pytest.approx(sum(held))


def _sequence(daemon: Daemon) -> int:
    return int(daemon.get("/stats").json()["rings"]["deployment"]["sequence"])


def _rate_now(daemon: Daemon) -> float:
    found = families(daemon.url, "/metrics")["deployment_request_rate"].samples
    return float(next(one.value for one in found if one.labels == {"deployment_id": "web"}))


def _total(frames: Frames, series: Series, after: int) -> float:
    """Σ rate × time since the frame before, over the frames after that sequence."""
    total = 0.0
    for i in range(1, len(frames.sequence)):
        value = float(frames.values[i, series.column])
        if frames.sequence[i] > after and value == value:
            total += value * float(frames.monotonic_ns[i] - frames.monotonic_ns[i - 1]) / 1e9
    return total


def _last(frames: Frames, series: Series) -> float:
    return float(frames.values[-1, series.column])
