"""The daemon with the source host turned on: its families on the page, and its program as lively as the others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from collector.sources.host.options import HostOptions
from tests.collector.sources.host.node_exporter import node_exporter, page_of
from tests.daemon import Daemon
from tests.programs import promtool_says, wait_until

pytestmark = pytest.mark.real

ON = "[source.host]\nenabled = true\ncadence = {filesystem = 60, hwmon = 30}\n"


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    with Daemon(tmp_path_factory.mktemp("daemon"), toml=ON) as running:
        running.wait_until_collected("host", "node")
        yield running


def test_promtool_has_nothing_against_the_page_but_their_own_names(daemon: Daemon, tmp_path: Path) -> None:
    with node_exporter(HostOptions(), tmp_path) as url:
        theirs = promtool_says(page_of(url))
    ours = promtool_says(daemon.get("/metrics").text)
    assert theirs, "promtool is known to complain of node_memory_AnonHugePages_bytes"
    assert set(ours) <= set(theirs)


def test_the_page_is_openmetrics_too_and_has_windows(daemon: Daemon) -> None:
    page = daemon.get("/metrics", Accept="application/openmetrics-text; version=1.0.0")
    families = {family.name: family.type for family in openmetrics(page.text)}  # type: ignore[no-untyped-call]
    assert families["node_cpu_seconds"] == "counter"
    assert families["node_uname_info"] == "gauge"
    wait_until(
        lambda: 'stat="rate"' in daemon.get("/metrics/aggregated?metric=node_context_switches_total").text,
        10,
        "a rate over the window",
    )
