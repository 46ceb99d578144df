"""Many tables → one set of series, whatever becomes of them meanwhile."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.metric import Metric
from shm.ring.layout import HEADER_BYTES
from shm.table import dead as dead_tables
from shm.table import merge, removal
from shm.table.format import listed, table_path
from shm.table.merge import ApplicationReader
from shm.table.process import ProcessTable
from tests.application import Process, cell_of, merged
from tests.rings import namespace as namespace
from tests.rings import overwrite, remove_files_of

COUNTER = Metric("requests", "counter", "Requests.", "", ("path",))


def gauge(table: ProcessTable, mode: str, value: float, label: str = "x", set_at: float = 1.0) -> None:
    metric = Metric(f"g_{mode.replace('+', '_')}", "gauge", "G.", "", ("l",))
    cell_of(table, metric, label, mode=mode).set(value, *([set_at] if mode.startswith("latest") else []))


def counter(table: ProcessTable, amount: float, path: str = "/") -> None:
    cell_of(table, COUNTER, path).inc(amount)


@pytest.fixture
def reader(namespace: str) -> Iterator[ApplicationReader]:
    reader = ApplicationReader(namespace, "web", {os.geteuid()})
    yield reader
    reader.close()


def test_gauges_are_merged_as_their_mode_says(namespace: str) -> None:
    tables = [ProcessTable(namespace, "web") for _ in range(3)]
    for table, value in zip(tables, (4.0, 1.0, 7.0), strict=True):
        for mode in ("sum", "avg", "min", "max", "latest", "min+dead", "max+dead", "latest+dead"):
            gauge(table, mode, value, set_at=10.0 - value)
    assert merged(namespace) == {
        "g_sum{x}": [12.0], "g_avg{x}": [4.0], "g_min{x}": [1.0], "g_max{x}": [7.0], "g_latest{x}": [1.0],
        "g_min_dead{x}": [1.0], "g_max_dead{x}": [7.0], "g_latest_dead{x}": [1.0],
    }  # fmt: skip


def test_each_process_has_a_series_by_its_pid(namespace: str) -> None:
    begin = (
        "from fogmetrics.application.shared_collector import SharedCollector; collector = SharedCollector('web'); "
        "collector.register_metric('g', 'gauge', label_names=('l',), across='each')"
    )
    with Process(namespace, begin) as one, Process(namespace, begin) as two:
        one.do("collector.record_metric('g', 1, {'l': 'x'})")
        two.do("collector.record_metric('g', 2, {'l': 'x'})")
        assert merged(namespace) == {f"g{{x,{one.pid}}}": [1.0], f"g{{x,{two.pid}}}": [2.0]}
        one.kill()
        assert merged(namespace) == {f"g{{x,{two.pid}}}": [2.0]}


def test_a_gauge_counts_only_those_who_have_a_value(namespace: str) -> None:
    one, two = ProcessTable(namespace, "web"), ProcessTable(namespace, "web")
    gauge(one, "avg", 3.0)
    gauge(one, "min", 3.0, "other")
    gauge(two, "avg", 9.0, "other")
    two.cell(Metric("g_avg", "gauge", "G.", "", ("l",)), ("x",), "avg")
    assert merged(namespace) == {"g_avg{x}": [3.0], "g_avg{other}": [9.0], "g_min{other}": [3.0]}


def test_nan_and_infinity_are_values(namespace: str) -> None:
    one, two = ProcessTable(namespace, "web"), ProcessTable(namespace, "web")
    gauge(one, "sum", math.inf)
    gauge(two, "sum", 1.0)
    gauge(one, "max", math.nan, "n")
    assert merged(namespace)["g_sum{x}"] == [math.inf]
    assert math.isnan(merged(namespace)["g_max{n}"][0])


def test_a_process_that_goes_takes_its_gauges_and_leaves_its_counts(namespace: str, reader: ApplicationReader) -> None:
    tables = [ProcessTable(namespace, "web") for _ in range(3)]
    for table in tables:
        counter(table, 2.0)
        gauge(table, "sum", 5.0)
    reader.refresh(listed(namespace)["web"])
    assert (reader.processes, reader.tables) == (3, 3)
    tables[0].close()
    assert merged(namespace) == {"requests{/}": [6.0], "g_sum{x}": [10.0]}
    dead_tables.fold(namespace, "web")
    reader.refresh(listed(namespace)["web"])
    assert (reader.processes, reader.tables) == (2, 3)
    assert merged(namespace) == {"requests{/}": [6.0], "g_sum{x}": [10.0]}
    before = reader.bytes
    tables[1].close()
    dead_tables.fold(namespace, "web")
    reader.refresh(listed(namespace)["web"])
    assert reader.bytes < before


def test_the_layout_is_made_anew_only_when_a_catalog_changes(namespace: str, reader: ApplicationReader) -> None:
    table = ProcessTable(namespace, "web")
    counter(table, 1.0)
    assert reader.refresh(listed(namespace)["web"]).tolist() == [1.0]
    plan = reader.plan
    counter(table, 1.0)
    assert reader.refresh(listed(namespace)["web"]).tolist() == [2.0]
    assert reader.plan is plan
    counter(table, 5.0, "/new")
    assert reader.refresh(listed(namespace)["web"]).tolist() == [2.0, 5.0]
    for i in range(300):  # a larger file takes the place of the first
        counter(table, 1.0, f"/{i}")
    assert reader.refresh(listed(namespace)["web"]).tolist() == [2.0, 5.0, *[1.0] * 300]


def test_where_definitions_differ_the_younger_process_is_right_and_the_rest_is_counted(
    namespace: str, reader: ApplicationReader
) -> None:
    old, new = ProcessTable(namespace, "web"), ProcessTable(namespace, "web")
    for table, bounds in ((old, (1.0, 2.0)), (new, (3.0,))):
        cell_of(table, Metric("seconds", "histogram", "T.", "seconds", (), bounds)).observe(2.5)
    counter(old, 1.0)
    counter(new, 1.0)
    values = reader.refresh(listed(namespace)["web"])
    assert reader.plan.conflicts == {"seconds": 1}
    by_name = {one.metric.name: values[one.column : one.end].tolist() for one in reader.plan.series}
    assert by_name["seconds"][1:] == [1.0, 1.0, 2.5]
    assert by_name["requests"] == [2.0]


def test_a_name_that_a_newer_release_has_for_another_metric_is_that_one(
    namespace: str, reader: ApplicationReader
) -> None:
    """Also after the old release's processes have ended, whose counts are kept."""
    old = ProcessTable(namespace, "web")
    cell_of(old, Metric("jobs_total", "counter", "J.")).inc(5.0)
    counter(old, 1.0)
    new = ProcessTable(namespace, "web")
    cell_of(new, Metric("jobs", "gauge", "J.")).set(4.0)
    for _ in range(2):
        values = reader.refresh(listed(namespace)["web"])
        assert {one.metric.name: values[one.column] for one in reader.plan.series} == {"jobs": 4.0, "requests": 1.0}
        assert reader.plan.conflicts == {"jobs_total": 1}
        old.close()
        dead_tables.fold(namespace, "web")


def test_a_fold_while_the_tables_are_read_is_read_again(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    living, dead = ProcessTable(namespace, "web"), ProcessTable(namespace, "web")
    counter(living, 1.0)
    counter(dead, 4.0)
    dead.close()
    reader = ApplicationReader(namespace, "web", {os.geteuid()})
    identities = listed(namespace)["web"]
    read_retired = reader._retired

    def folded_behind_it() -> object:
        seen = read_retired()
        if not table_path(namespace, "web", "retired").exists():
            dead_tables.fold(namespace, "web")
        return seen

    monkeypatch.setattr(reader, "_retired", folded_behind_it)
    assert reader.refresh(identities).tolist() == [5.0]
    reader.close()


@pytest.mark.parametrize("at", [0, 30, HEADER_BYTES + 20])
def test_a_table_that_is_damaged_costs_itself_and_is_named_once(
    namespace: str, reader: ApplicationReader, at: int, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = ProcessTable(namespace, "web"), ProcessTable(namespace, "web")
    counter(one, 1.0)
    counter(two, 2.0)
    path = table_path(namespace, "web", one.who)
    overwrite(path, at, b"\xff\xff")
    for _ in range(2):
        assert reader.refresh(listed(namespace)["web"]).tolist() == [2.0]
    assert list(reader.errors) == [one.who]
    assert [record.getMessage() for record in caplog.records] == ["table refused"]
    path.unlink()
    reader.refresh(listed(namespace)["web"])
    assert reader.errors == {}


def test_a_table_that_is_cut_costs_itself(namespace: str, reader: ApplicationReader) -> None:
    with Process(namespace, "from shm.table.process import ProcessTable; from shm.metric import Metric") as process:
        process.do(f"table = ProcessTable({namespace!r}, 'web')")
        process.do("table.cell(Metric('requests', 'counter', 'R.', '', ('path',)), ('/',)).inc(3.0)")
        other = ProcessTable(namespace, "web")
        counter(other, 1.0)
        assert reader.refresh(listed(namespace)["web"]).tolist() == [4.0]
        [who] = [who for who in listed(namespace)["web"] if who != other.who]
        os.truncate(table_path(namespace, "web", who), 4096)
        assert reader.refresh(listed(namespace)["web"]).tolist() == [1.0]
        assert "was cut short" in reader.errors[who]


def test_nobody_is_an_empty_application(reader: ApplicationReader) -> None:
    assert reader.refresh([]).tolist() == []
    assert reader.refresh(["1-0000000000000001"]).tolist() == []
    assert reader.errors == {}


def test_what_is_damaged_in_a_removal_s_entry_takes_nothing_off() -> None:
    values = np.array([5.0, 6.0])
    merge._subtract(values, (0, 1, False), b"short")
    merge._subtract(values, None, bytes(8))
    assert values.tolist() == [5.0, 6.0]


# ---- against the plain way -----------------------------------------------------------------------------------

_steps = st.lists(
    st.tuples(
        st.sampled_from(["count", "observe", "sum up", "set", "die", "begin", "fold", "remove"]),
        st.integers(0, 3),
        st.integers(0, 3),
    ),
    max_size=40,
)


@settings(max_examples=120, deadline=None)
@given(_steps)
def test_whatever_happens_the_sums_are_those_of_a_plain_count(steps: list[tuple[str, int, int]]) -> None:
    namespace = f"t{os.getpid()}-merging"
    reader = ApplicationReader(namespace, "web", {os.geteuid()})
    histogram = Metric("seconds", "histogram", "T.", "seconds", (), (1.0, 2.0))
    tables = [ProcessTable(namespace, "web") for _ in range(2)]
    counted: dict[str, float] = {}
    observed, summed = [0.0] * 4, [0.0, 0.0]
    gauges: dict[int, float] = {}
    try:
        for what, which, number in steps:
            table = tables[which % len(tables)]
            if what == "count":
                counter(table, number + 0.5, f"/{number}")
                counted[f"/{number}"] = counted.get(f"/{number}", 0.0) + number + 0.5
            elif what == "observe":
                cell_of(table, histogram).observe(float(number))
                for at, bound in enumerate((1.0, 2.0, math.inf)):
                    observed[at] += number <= bound
                observed[3] += number
            elif what == "sum up":
                cell_of(table, Metric("bytes", "summary", "S.")).observe(float(number))
                summed[0] += 1
                summed[1] += number
            elif what == "set":
                gauge(table, "sum", float(number))
                gauges[id(table)] = float(number)
            elif what == "die" and len(tables) > 1:
                tables.remove(table)
                gauges.pop(id(table), None)
                table.close()
            elif what == "begin" and len(tables) < 5:
                tables.append(ProcessTable(namespace, "web"))
            elif what == "fold":
                dead_tables.fold(namespace, "web")
            elif what == "remove":
                key = "requests", (f"/{number}",)
                table.remove([key])
                removal.remove_elsewhere(table, key.__eq__)
                counted.pop(f"/{number}", None)
            values = reader.refresh(listed(namespace)["web"])
            found = {
                (one.metric.name, *one.label_values): values[one.column : one.end].tolist()
                for one in reader.plan.series
            }
            paths = {key[1]: value for key, [value, *_] in found.items() if key[0] == "requests" and value == value}
            assert paths == counted
            if observed[2]:
                assert found["seconds",][1:] == observed
            if summed[0]:
                assert found["bytes",] == summed
            if gauges:
                assert found["g_sum", "x"] == [sum(gauges.values())]
    finally:
        for table in tables:
            table.close()
        reader.close()
        remove_files_of(namespace)


def test_the_reader_is_of_one_application(namespace: str) -> None:
    ProcessTable(namespace, "api")
    assert merged(namespace) == {}
    assert Path(table_path(namespace, "api", listed(namespace)["api"][0])).exists()
