"""The source *applications*: a frame of what the tables say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector import registry
from collector.frame.collector import MetricCollector
from collector.source import Collection, Sample
from collector.sources.applications import ApplicationsSource
from fogmetrics.config import parse
from shm.errors import ConfigurationError
from shm.metric import Metric
from shm.ring.reader import RingReader
from shm.table import dead
from shm.table.format import listed, table_path
from shm.table.process import ProcessTable
from tests.failing import raising
from tests.rings import overwrite


@pytest.fixture
def source(namespace: str) -> Iterator[ApplicationsSource]:
    source = ApplicationsSource(namespace=namespace)
    yield source
    source.close()


def fill(table: ProcessTable) -> None:
    counter: Any = table.cell(Metric("jobs", "counter", "Jobs.", "", ("l",)), ("x",))
    gauge: Any = table.cell(Metric("busy", "gauge", "Busy."), ())
    histogram: Any = table.cell(Metric("seconds", "histogram", "Time.", "seconds", (), (1.0, 2.0)), ())
    summary: Any = table.cell(Metric("bytes", "summary", "Size."), ())
    counter.inc(2.0)
    gauge.set(3.0)
    histogram.observe(1.5)
    summary.observe(7.0)


def by_name(collection: Collection) -> dict[str, Sample]:
    return {sample.metric: sample for sample in collection.samples}


def test_it_knows_who_is_believed() -> None:
    text = f'[applications]\nusers = ["{os.geteuid()}", "12345"]\n'
    source = registry.build("applications", parse(text, Path("x.toml")))
    assert source._owners == {os.geteuid(), 12345}  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match=r"\[applications\] users is 'nosuchuser'"):
        registry.build("applications", parse('[applications]\nusers = ["nosuchuser"]', Path("x")))


def test_a_collection_has_every_series_and_its_metric(namespace: str, source: ApplicationsSource) -> None:
    for table in (ProcessTable(namespace, "web"), ProcessTable(namespace, "web")):
        fill(table)
    found = source.collect()
    samples = by_name(found)
    assert samples["collector_application_processes"] == Sample(
        "collector_application_processes", 2, {"application": "web"}
    )
    assert samples["jobs"] == Sample("jobs", 4.0, {"l": "x"})
    assert samples["busy"] == Sample("busy", 6.0)
    assert (samples["seconds"].value, samples["seconds"].counted) == (None, [0.0, 2.0, 2.0, 3.0])
    assert samples["bytes"].counted == [2.0, 14.0]
    assert [one.name for one in found.metrics] == ["jobs", "busy", "seconds", "bytes"]
    assert found.errors == []


def test_its_frames_keep_them_and_the_dead_are_folded(namespace: str, source: ApplicationsSource) -> None:
    table = ProcessTable(namespace, "web")
    fill(table)
    with MetricCollector("applications", namespace=namespace) as collector:
        collector.register(*source.metrics)
        for _ in range(2):
            [result] = collector.collect_from_sources([source], 5.0)
            assert list(result.errors) == []
            collector.commit()
        with RingReader(namespace, "applications") as ring:
            frame = ring.latest()
            assert frame is not None
            values = {one.metric.name: list(frame.values[one.column : one.end]) for one in ring.series}
        assert values["jobs"] == [2.0]
        assert values["bytes"] == [1.0, 7.0]
        assert values["seconds"][1:] == [0.0, 1.0, 1.0, 1.5]
        table.close()
        source.collect()
        assert listed(namespace) == {"web": ["retired"]}
        samples = by_name(source.collect())
        assert samples["jobs"].value == 2.0
        assert "busy" not in samples


def test_of_two_applications_with_one_name_for_two_things_the_first_has_it(
    namespace: str, source: ApplicationsSource
) -> None:
    one, two, three = (ProcessTable(namespace, name) for name in ("api", "web", "xyz"))
    for table, metric in (
        (one, Metric("jobs", "counter", "J.")), (two, Metric("jobs", "gauge", "J.")),
        (three, Metric("collector_up", "gauge", "U.")),
    ):  # fmt: skip
        cell: Any = table.cell(metric, (), first=1.0)
        cell.inc(1.0)
    found = source.collect()
    assert [sample.value for sample in found.samples if sample.metric == "jobs"] == [1.0]
    assert found.errors == [
        "application 'web': metric 'jobs' is api's; rename one",
        "application 'xyz': metric 'collector_up' is the daemon's; rename one",
    ]


def test_of_a_series_that_two_applications_have_the_first_ones_is_kept(
    namespace: str, source: ApplicationsSource
) -> None:
    for name, amount in (("web", 1000.0), ("api", 1.0)):
        cell: Any = ProcessTable(namespace, name).cell(Metric("jobs", "counter", "J."), ())
        cell.inc(amount)
    found = source.collect()
    assert by_name(found)["jobs"].value == 1.0
    assert found.errors == [
        "application 'web': series of metric 'jobs' are api's too, so they are omitted here; rename one"
    ]


def test_an_application_that_has_ended_takes_no_name_from_a_living_one(
    namespace: str, source: ApplicationsSource
) -> None:
    ended, living = ProcessTable(namespace, "api"), ProcessTable(namespace, "web")
    counter: Any = ended.cell(Metric("jobs_total", "counter", "J."), ())
    gauge: Any = living.cell(Metric("jobs", "gauge", "J."), ())
    counter.inc(1.0)
    gauge.set(2.0)
    assert source.collect().errors == ["application 'web': metric 'jobs' is api's; rename one"]
    ended.close()
    found = source.collect()
    assert by_name(found)["jobs"] == Sample("jobs", 2.0)
    assert found.errors == ["application 'api': metric 'jobs_total' is web's; rename one"]
    assert [one.name for one in found.metrics] == ["jobs"]


def test_what_is_damaged_and_what_can_t_be_folded_is_an_error_by_name(
    namespace: str, source: ApplicationsSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    good, bad = ProcessTable(namespace, "web"), ProcessTable(namespace, "web")
    fill(good)
    fill(bad)
    bad.close()
    overwrite(table_path(namespace, "web", bad.who), 0, b"\xff")
    monkeypatch.setattr(dead, "fold", raising(OSError("no")))
    found = source.collect()
    assert by_name(found)["jobs"].value == 2.0
    [damaged] = found.errors
    assert "magic is 0x" in damaged
    good.close()
    found = source.collect()
    assert "the tables of its dead processes are not folded: no" in found.errors[-1]


def test_an_application_that_is_gone_has_no_samples(namespace: str, source: ApplicationsSource) -> None:
    table = ProcessTable(namespace, "web")
    fill(table)
    assert source.collect().samples
    table_path(namespace, "web", table.who).unlink()
    assert source.collect().samples == []
