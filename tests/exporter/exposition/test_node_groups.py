"""Series are chosen by node_exporter's names of collectors."""

from __future__ import annotations

import pytest

from collector.sources.host.options import GROUPS
from collector.sources.host.source import load
from exporter.exposition.node_groups import PREFIXES, group_of, is_chosen
from exporter.http.parameters import MetricsQuery
from shm.metric import Metric, Series
from tests.exporter.scene import Scene, get, samples_of


@pytest.mark.parametrize("group", load(GROUPS), ids=lambda group: group.name)
def test_each_metric_of_the_host_is_of_the_group_that_reads_it(group: object) -> None:
    for metric in group.metrics:  # type: ignore[attr-defined]
        assert group_of("host", Series(metric, ("x",) * len(metric.label_names), 0)) == group.name  # type: ignore[attr-defined]
    assert set(PREFIXES) == set(GROUPS)


def test_a_group_has_its_own_success_and_other_sources_their_names() -> None:
    success = Metric("node_scrape_collector_success", "gauge", "S.", "", ("collector",))
    assert group_of("host", Series(success, ("cpu",), 0)) == "cpu"
    load1 = Series(Metric("node_load1", "gauge", "L."), (), 0)
    assert (group_of("host", load1), group_of("textfile", load1)) == ("loadavg", "textfile")
    assert is_chosen("textfile", load1, MetricsQuery(collect=("cpu", "textfile")))
    assert not is_chosen("textfile", load1, MetricsQuery(exclude=("textfile",)))


def test_both_pages_take_the_parameters_of_a_job_for_node_exporter(scene: Scene) -> None:
    load1, memory = Metric("node_load1", "gauge", "L."), Metric("node_memory_MemFree_bytes", "gauge", "M.")
    up = Metric("collector_up", "gauge", "Up.", "", ("source",), own=True)
    one = scene.collector("host", load1, memory, up)
    one.record_metric("node_load1", 1)
    one.record_metric("node_memory_MemFree_bytes", 2)
    one.record_metric("collector_up", 1, {"source": "host"})
    scene.commit("host")
    scene.commit("other", ("packets", 5.0))

    def names(path: str) -> set[str]:
        return {name for name, _ in samples_of(get(scene.exporter(), path).text) if not name.startswith("exporter_")}

    for path in ("/metrics", "/metrics/aggregated"):
        assert names(f"{path}?collect[]=loadavg") == {"node_load1"}
        assert names(f"{path}?collect[]=loadavg&collect[]=meminfo") == {load1.name, memory.name}
        assert names(f"{path}?collect[]=netstat") == set(), "a group of node_exporter's that this host source lacks"
        assert names(f"{path}?source[]=host&exclude[]=loadavg") == {memory.name, "collector_up"}
        assert names(f"{path}?name[]=node_load1") == {"node_load1"}
