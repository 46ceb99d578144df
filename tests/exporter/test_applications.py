"""Applications on the exporter's pages: /metrics, /stats, /health, and what it says of itself."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.app import Exporter
from exporter.http.negotiation import Format
from exporter.http.parameters import MetricsQuery, parse_aggregated_query
from exporter.selfmetrics import SelfMetrics
from exporter.status.stats import health, stats
from fogmetrics.config import Config
from fogmetrics.settings.tables import ApplicationsConfig, ShmConfig
from shm.errors import ConfigurationError
from shm.metric import Metric
from shm.table.cells import CounterCell, GaugeCell
from shm.table.format import table_path
from shm.table.process import ProcessTable
from tests.application import Process
from tests.exporter.scene import get, own_page
from tests.rings import append_proof, open_writer, overwrite
from tests.rings import namespace as namespace

BEGIN = (
    "from fogmetrics.application.shared_collector import SharedCollector; collector = SharedCollector({name!r}); "
    "collector.register_metric('jobs', 'counter', help='Jobs.', label_names=('l',)); "
    "collector.register_metric('busy', 'gauge', help='Busy.')"
)


@pytest.fixture
def exporter(namespace: str) -> Iterator[Exporter]:
    """Without the label of applications, whose values these tests are about."""
    exporter = Exporter(Config(shm=ShmConfig(namespace=namespace), applications=ApplicationsConfig(label="")))
    yield exporter
    exporter.close()


def page(exporter: Exporter, query: MetricsQuery | None = None) -> list[str]:
    text = b"".join(exporter.metrics_parts(query or MetricsQuery(), Format.TEXT)).decode()
    return [line for line in text.split("\n") if line and not line.startswith(("#", "exporter_", "process_"))]


def count(table: ProcessTable, name: str, amount: float) -> None:
    cell = table.cell(Metric(name, "counter", "C."), ())
    assert isinstance(cell, CounterCell)
    cell.inc(amount)


def test_every_scrape_has_the_values_of_that_moment(namespace: str, exporter: Exporter) -> None:
    with Process(namespace, BEGIN.format(name="web")) as one, Process(namespace, BEGIN.format(name="web")) as two:
        one.do("collector.increment('jobs', 2, {'l': 'x'})")
        two.do("collector.increment('jobs', 3, {'l': 'x'}), collector.record_metric('busy', 4)")
        assert page(exporter) == ["busy 4.0", 'jobs_total{l="x"} 5.0']
        one.do("collector.increment('jobs', 1, {'l': 'x'})")
        assert page(exporter) == ["busy 4.0", 'jobs_total{l="x"} 6.0']
        two.kill()
        assert page(exporter) == ['jobs_total{l="x"} 6.0']
        one.do("collector.increment('jobs', 1, {'l': 'new'})")
        assert page(exporter) == ['jobs_total{l="x"} 6.0', 'jobs_total{l="new"} 1.0']


def test_applications_stand_beside_rings_and_are_chosen_as_these_are(namespace: str, exporter: Exporter) -> None:
    with open_writer(namespace, "s", columns=2) as writer:
        append_proof(writer)
        writer.append([1.0, 2.0], exporter.rings.wall(), exporter.rings.monotonic())
        web, api = ProcessTable(namespace, "web"), ProcessTable(namespace, "api")
        count(web, "jobs", 1.0)
        count(api, "calls", 2.0)
        ring = ['gauge{column="0"} 1.0', 'gauge{column="1"} 2.0']
        assert page(exporter) == ["calls_total 2.0", *ring, "jobs_total 1.0"]
        assert page(exporter, MetricsQuery(sources=("web",))) == ["jobs_total 1.0"]
        assert page(exporter, MetricsQuery(sources=("s",))) == ring
        assert page(exporter, MetricsQuery(names=("calls_total",))) == ["calls_total 2.0"]


def test_a_series_that_two_have_is_the_first_s_and_the_other_is_named(namespace: str, exporter: Exporter) -> None:
    with open_writer(namespace, "s", columns=1) as writer:
        writer.append([1.0], exporter.rings.wall(), exporter.rings.monotonic())
        table = ProcessTable(namespace, "web")
        cell = table.cell(Metric("gauge", "gauge", "G.", "", ("column",)), ("0",))
        assert isinstance(cell, GaugeCell)
        cell.set(7.0)
        other = ProcessTable(namespace, "xyz")
        count(other, "gauge", 1.0)
        assert page(exporter) == ['gauge{column="0"} 1.0']
    assert [(one.source, one.metric) for one in exporter.own.conflicts] == [("web", "gauge"), ("xyz", "gauge")]
    told = stats(exporter.rings, (), exporter.applications)["conflicts"]
    assert [(one["source"], one["metric"]) for one in told] == [("web", "gauge"), ("xyz", "gauge")]


def test_applications_with_the_same_metrics_keep_their_series_apart(namespace: str) -> None:
    """Names of a library's metrics are not the user's to choose."""
    exporter = Exporter(Config(shm=ShmConfig(namespace=namespace)))
    requests, mine = (
        Metric("requests", "counter", "R.", "", ("code",)),
        Metric("mine", "gauge", "M.", "", ("application",)),
    )
    for application, value in (("shopa", 10.0), ("shopb", 1000.0)):
        table = ProcessTable(namespace, application)
        cell = table.cell(requests, ("200",))
        assert isinstance(cell, CounterCell)
        cell.inc(value)
        gauge = table.cell(mine, ("own",))
        assert isinstance(gauge, GaugeCell)
        gauge.set(value)
    count(ProcessTable(namespace, "other"), "requests", 1.0)  # the same name with other labels
    assert page(exporter) == [
        'mine{application="shopa",exported_application="own"} 10.0',
        'mine{application="shopb",exported_application="own"} 1000.0',
        'requests_total{application="other"} 1.0',
        'requests_total{application="shopa",code="200"} 10.0',
        'requests_total{application="shopb",code="200"} 1000.0',
    ]
    assert exporter.own.conflicts == []
    exporter.close()
    with pytest.raises(ConfigurationError, match=r'\[applications\] label is \'__a\'.*"" for none'):
        Exporter(Config(applications=ApplicationsConfig(label="__a")))


def test_an_application_that_has_ended_hides_nothing_of_a_living_one(namespace: str, exporter: Exporter) -> None:
    ended, living = ProcessTable(namespace, "api"), ProcessTable(namespace, "web")
    count(ended, "jobs", 1.0)
    gauge = living.cell(Metric("jobs", "gauge", "J."), ())
    assert isinstance(gauge, GaugeCell)
    gauge.set(2.0)
    assert page(exporter) == ["jobs_total 1.0"]
    ended.close()
    assert page(exporter) == ["jobs 2.0"]
    [conflict] = get(exporter, "/stats").json()["conflicts"]
    assert (conflict["source"], conflict["reason"]) == ("api", "it is of type counter here and gauge in ring 'web'")
    living.close()
    assert page(exporter) == ["jobs_total 1.0"]


def test_the_history_takes_nothing_from_another_ring(namespace: str, exporter: Exporter) -> None:
    now = exporter.rings.wall(), exporter.rings.monotonic()
    with open_writer(namespace, "applications", columns=1) as history, open_writer(namespace, "s", columns=1) as writer:
        history.append([99.0], *now)
        writer.append([1.0], *now)
        assert page(exporter) == ['gauge{column="0"} 1.0']
        query = parse_aggregated_query((("stat", "max"),), 300_000_000_000)
        over = b"".join(exporter.aggregated_parts(query, Format.TEXT)).decode()
        assert 'gauge{column="0",stat="max"} 1.0\n' in over


def test_the_ring_of_their_history_gives_way_to_the_tables(namespace: str, exporter: Exporter) -> None:
    with open_writer(namespace, "applications", columns=1) as writer:
        series = writer.add_series(Metric("collector_up", "gauge", "Up.", "", ("source",), own=True), ("applications",))
        row = [5.0] * (series.column + 1)
        writer.append(row, exporter.rings.wall(), exporter.rings.monotonic())
        assert page(exporter) == ['collector_up{source="applications"} 5.0']


def test_a_table_that_is_damaged_costs_itself_and_is_told_everywhere(namespace: str, exporter: Exporter) -> None:
    table, other = ProcessTable(namespace, "web"), ProcessTable(namespace, "web")
    count(table, "jobs", 1.0)
    count(other, "jobs", 2.0)
    overwrite(table_path(namespace, "web", table.who), 0, b"\xff")
    assert page(exporter) == ["jobs_total 2.0"]
    own = own_page(SelfMetrics(exporter.rings, exporter.rings.counts, exporter.applications))
    assert 'exporter_application_errors_total{application="web"} 1.0\n' in own
    assert 'exporter_application_processes{application="web"} 1.0\n' in own
    _, told = health(exporter.rings, exporter.applications)
    assert "magic is 0x" in told["applications"]["web"]["error"]
    assert "magic is 0x" in stats(exporter.rings, (), exporter.applications)["errors"]["web"]


def test_what_can_t_be_read_at_all_costs_no_other(
    namespace: str, exporter: Exporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    count(ProcessTable(namespace, "api"), "calls", 2.0)
    table = ProcessTable(namespace, "web")
    count(table, "jobs", 1.0)
    assert page(exporter) == ["calls_total 2.0", "jobs_total 1.0"]

    def fail(*_: object) -> None:
        raise ValueError("nonsense")

    monkeypatch.setattr(exporter.applications.applications["web"].reader, "refresh", fail)
    assert page(exporter) == ["calls_total 2.0"]
    monkeypatch.undo()
    assert page(exporter) == ["calls_total 2.0", "jobs_total 1.0"]


def test_an_application_that_is_removed_is_gone(namespace: str, exporter: Exporter) -> None:
    table = ProcessTable(namespace, "web")
    count(table, "jobs", 1.0)
    assert page(exporter) == ["jobs_total 1.0"]
    table_path(namespace, "web", table.who).unlink()
    assert page(exporter) == []
    assert exporter.applications.applications == {}


def test_stats_and_health_tell_of_applications(namespace: str, exporter: Exporter) -> None:
    fresh, told = health(exporter.rings, exporter.applications)
    assert (fresh, told) == (False, {"status": "failing", "problems": [], "sources": {}})
    table = ProcessTable(namespace, "web")
    count(table, "jobs", 1.0)
    fresh, told = health(exporter.rings, exporter.applications)
    assert (fresh, told["status"], told["applications"]) == (True, "ok", {"web": {"processes": 1}})
    found = stats(exporter.rings, (), exporter.applications)
    size = table_path(namespace, "web", table.who).stat().st_size
    assert found["applications"] == {"web": {"processes": 1, "tables": 1, "bytes": size, "series": 1, "conflicts": {}}}
    assert found["total_bytes"] == size
    assert found["registered_metrics"] == ["jobs"]
    assert [one["metric"] for one in found["largest_metrics"]] == ["jobs"]
    assert get(exporter, "/health").json()["applications"] == {"web": {"processes": 1}}
    table.close()
    fresh, _ = health(exporter.rings, exporter.applications)
    assert not fresh


def test_memory_of_removed_tables_is_freed_even_when_nobody_scrapes(namespace: str, exporter: Exporter) -> None:
    def held() -> int:
        return sum(namespace in os.readlink(one) for one in Path("/proc/self/fd").iterdir() if one.is_symlink())

    with Process(namespace, BEGIN.format(name="web")) as process:
        process.do("collector.increment('jobs', 2, {'l': 'x'})")
        page(exporter)
        stats(exporter.rings, (), exporter._worker_applications)
        assert held() == 2
        process.end()
    asyncio.run(exporter.close_replaced())
    assert held() == 0
    assert page(exporter) == ['jobs_total{l="x"} 2.0']


def test_only_the_users_who_are_named_are_believed(namespace: str) -> None:
    count(ProcessTable(namespace, "web"), "jobs", 1.0)
    config = Config(shm=ShmConfig(namespace=namespace, owner="12345"))
    exporter = Exporter(config)
    assert page(exporter) == []
    assert exporter.applications.errors() == {}
    assert len(exporter.applications.files.foreign) == 1
    exporter.close()
    trusting = Exporter(
        Config(shm=ShmConfig(namespace=namespace, owner="12345"), applications=ApplicationsConfig((str(os.geteuid()),)))
    )
    assert page(trusting) == ['jobs_total{application="web"} 1.0']
    trusting.close()
    with pytest.raises(ConfigurationError, match=r"\[applications\] users is 'nosuchuser', which is not a user"):
        Exporter(Config(applications=ApplicationsConfig(("nosuchuser",))))
