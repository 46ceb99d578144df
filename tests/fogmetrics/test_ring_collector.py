"""RingCollector in a registry of prometheus_client: the series of /metrics, in both formats."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

from collector.frame.collector import MetricCollector
from exporter.http.negotiation import Format
from exporter.rings import Ring, RingSet
from fogmetrics import RingCollector
from shm.errors import ConfigurationError
from shm.files import ring_path
from shm.metric import Metric
from shm.table.cells import CounterCell
from shm.table.process import ProcessTable
from tests.exporter.scene import page_of, samples_of
from tests.packages import ROOT
from tests.programs import promtool_says, unmeasured

METRICS = (
    Metric("temperature", "gauge", 'Air, in °C: "dry"\nback\\slash.', "celsius", ("room",)),
    Metric("packets", "counter", "Packets seen.", "packets"),
    Metric("latency_seconds", "histogram", "Time.", "seconds", ("path",), (0.5, 2.5)),
    Metric("below", "histogram", "Below 0.", "", (), (-1.0, 1.0)),
    Metric("size", "summary", "Size.", "bytes"),
    Metric("other", "untyped", "Other."),
)


@pytest.fixture
def one(namespace: str) -> Iterator[MetricCollector]:
    with MetricCollector("one", namespace=namespace, capacity=64) as found:
        found.register(*METRICS)
        found.record_metric("temperature", 21.5, {"room": 'a "b"\\\n'})
        found.record_metric("temperature", math.nan, {"room": "c"})
        found.record_metric("packets", 5000)
        for value in (0.1, 2.5, 9.0):
            found.record_metric("latency_seconds", value, {"path": "/"})
        found.record_counted("size", (2, 300.0))
        found.record_metric("other", -math.inf)
        found.commit()
        yield found


@pytest.fixture
def registry(namespace: str) -> Iterator[CollectorRegistry]:
    collector = RingCollector(namespace)
    found = CollectorRegistry(auto_describe=True)  # as prometheus_client's own REGISTRY
    found.register(collector)
    yield found
    collector.close()


def exposed(registry: CollectorRegistry, form: Format = Format.TEXT) -> str:
    write: Callable[[CollectorRegistry], bytes] = generate_latest if form is Format.TEXT else generate_openmetrics
    return write(registry).decode()


@pytest.mark.parametrize("form", Format)
def test_the_samples_are_those_of_metrics(
    namespace: str, one: MetricCollector, registry: CollectorRegistry, form: Format
) -> None:
    cell = ProcessTable(namespace, "web").cell(Metric("jobs", "counter", "Jobs."), ())
    assert isinstance(cell, CounterCell)
    cell.inc(3)
    page, end = page_of(namespace, form), "# EOF\n" * (form is Format.OPENMETRICS)
    text = exposed(registry, form)
    found, wanted = samples_of(text, form), samples_of(page + end, form)
    assert found.pop(key := ("temperature", (("room", "c"),))) != wanted.pop(key)  # NaN
    assert found == wanted
    assert len(found) == 11
    assert {line for line in text.split("\n") if line[:6] == "# HELP"} == {
        line for line in page.split("\n") if line[:6] == "# HELP"
    }


@pytest.mark.parametrize(("form", "time"), [(Format.TEXT, "1700000000123"), (Format.OPENMETRICS, "1700000000.123")])
def test_counters_have_the_time_of_their_frame(namespace: str, one: MetricCollector, form: Format, time: str) -> None:
    one.record_metric("packets", 7)
    one.record_metric("temperature", 21, {"room": "a"})
    one.commit(1_700_000_000_123_999_999)
    for timestamps, timed in (("counters", {"packets_total"}), ("none", set())):
        registry = CollectorRegistry()
        registry.register(RingCollector(namespace, timestamps=timestamps))
        lines = [line for line in exposed(registry, form).splitlines() if line[0] != "#"]
        found = {line.partition("{")[0].split(" ")[0] for line in lines if line.split(" ")[-1].startswith(time)}
        assert found == timed
    with pytest.raises(ConfigurationError, match="timestamps is 'some'; give one of counters, all, none"):
        RingCollector(namespace, timestamps="some")


@pytest.mark.real
def test_promtool_accepts_the_page(one: MetricCollector, registry: CollectorRegistry) -> None:
    promtool_says(exposed(registry, Format.TEXT))


def test_what_openmetrics_forbids_is_in_neither_format(one: MetricCollector, registry: CollectorRegistry) -> None:
    one.record_metric("packets", math.nan)
    one.record_metric("below", 0.0)
    one.commit()
    for form in Format:
        names = {name for name, _ in samples_of(exposed(registry, form), form)}
        assert names == {"below_bucket"}


def test_a_stale_ring_and_one_that_can_t_be_read_are_left_out(
    namespace: str, one: MetricCollector, registry: CollectorRegistry
) -> None:
    with MetricCollector("two", namespace=namespace, capacity=64) as two:
        two.register(METRICS[1])
        two.record_metric("packets", 7)
        two.commit()
        ring_path(namespace, "bad").write_bytes(b"no ring" * 1000)
        assert ("packets_total", ()) in (found := samples_of(exposed(registry)))
        assert found["packets_total", ()] == 5000
        one.record_metric("packets", 5001)
        one.commit(time.time_ns(), time.monotonic_ns() - 46_000_000_000)
        assert samples_of(exposed(registry)) == {("packets_total", ()): 7.0}, "it is the fresh ring's now"
    ring_path(namespace, "bad").unlink()


def test_series_come_and_go_and_no_name_is_claimed(one: MetricCollector, registry: CollectorRegistry) -> None:
    Gauge("packets", "Of the program.", registry=registry)
    assert ("packets_total", ()) in samples_of(exposed(registry))
    one.record_metric("other", 1.0)
    one.commit()
    assert samples_of(exposed(registry)) == {("packets", ()): 0.0, ("other", ()): 1.0}


def test_of_threads_that_collect_at_once_one_reads_the_rings(
    one: MetricCollector, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: list[int] = []
    most: list[int] = []
    refresh = RingSet.refresh

    def noted(self: RingSet) -> list[Ring]:
        inside.append(1)
        time.sleep(0.01)
        most.append(len(inside))
        inside.pop()
        return refresh(self)

    monkeypatch.setattr(RingSet, "refresh", noted)
    threads = [threading.Thread(target=exposed, args=(registry,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1] * 8


def test_a_namespace_or_user_that_can_t_be_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"RingCollector\(\) namespace is '../x'; use 1 to 64 letters"):
        RingCollector("../x")
    with pytest.raises(ConfigurationError, match=r"RingCollector\(\) owner is 'nobody at all', which is not a user"):
        RingCollector(owner="nobody at all")
    with pytest.raises(ConfigurationError, match=r"RingCollector\(\) users is 'nobody at all', which is not a user"):
        RingCollector(users=["nobody at all"])


def test_prometheus_client_is_loaded_with_it_and_not_with_fogmetrics() -> None:
    code = "import sys, fogmetrics; assert 'prometheus_client' not in sys.modules; fogmetrics.RingCollector()"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=unmeasured(), check=True, timeout=60)
