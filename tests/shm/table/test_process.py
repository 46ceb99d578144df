"""The table of one process: what is stored, what a reader sees, growth, removal, limits, forks."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from shm.errors import ConfigurationError, MetricError, NoSpace
from shm.metric import Metric
from shm.table import file
from shm.table.format import files_of
from shm.table.process import ProcessTable
from shm.table.reader import TableReader
from tests.application import cell_of, merged
from tests.rings import in_fork
from tests.rings import namespace as namespace

COUNTER = Metric("requests", "counter", "Requests.", "", ("path",))
GAUGE = Metric("busy", "gauge", "Busy.")
HISTOGRAM = Metric("seconds", "histogram", "Time.", "seconds", (), (0.1, 0.5, 1.0))
SUMMARY = Metric("bytes", "summary", "Size.")


@pytest.fixture
def table(namespace: str) -> ProcessTable:
    return ProcessTable(namespace, "web")


def read(table: ProcessTable) -> dict[tuple[str, tuple[str, ...]], list[float]]:
    reader = TableReader(table.namespace, "web", table.who, {os.geteuid()})
    reader.refresh()
    assert not reader.catalog.error
    values = reader.values().tolist()
    return {(one.metric.name, one.label_values): values[one.column : one.end] for one in reader.catalog.series}


def counter(table: ProcessTable, path: str = "/") -> Any:
    return cell_of(table, COUNTER, path)


def full(application: str, *_: object) -> None:
    raise NoSpace(application, "its segment needs more")


def test_a_counter_begins_at_0_and_every_increment_is_there_at_once(table: ProcessTable) -> None:
    cell = counter(table)
    assert read(table)[COUNTER.name, ("/",)] == [0.0]
    cell.inc(2.5)
    cell.inc(1.0)
    assert read(table)[COUNTER.name, ("/",)] == [3.5]
    assert cell.get() == 3.5
    cell.set(7.0)
    assert cell.get() == 7.0


def test_a_gauge_has_no_value_until_it_is_set_and_counts_from_0(table: ProcessTable) -> None:
    cell = cell_of(table, GAUGE)
    [value] = read(table)[GAUGE.name, ()]
    assert math.isnan(value)
    assert cell.get() == 0.0
    cell.inc(-2.0)
    assert read(table)[GAUGE.name, ()] == [-2.0]
    cell.set(math.nan)
    assert math.isnan(cell.get())
    cell.inc(1.0)
    assert math.isnan(cell.get())  # a NaN that somebody set is a value
    other = cell_of(table, Metric("first", "gauge", "F."), first=4.0)
    assert other.get() == 4.0


def test_a_gauge_of_which_the_latest_counts_keeps_when_it_was_set(table: ProcessTable) -> None:
    cell = cell_of(table, GAUGE, mode="latest")
    cell.set(3.0, 17.0)
    assert cell.values() == [3.0, 17.0]
    cell.set(4.0)
    assert cell.values()[1] > 1e9
    cell.set(3.0, 17.0)
    cell.inc(2.0)
    assert cell.get() == 5.0
    assert cell.values()[1] > 1e9, "what it was added to last is what was set last"


def test_a_gauge_of_which_the_latest_counts_may_begin_with_an_increment(table: ProcessTable, namespace: str) -> None:
    cell_of(table, GAUGE, mode="latest").inc(3.0)
    assert merged(namespace) == {"busy{}": [3.0]}


def test_a_histogram_counts_each_value_in_its_own_bucket_and_sums(table: ProcessTable) -> None:
    cell = cell_of(table, HISTOGRAM)
    for value in (0.05, 0.1, 0.3, 5.0, math.inf, math.nan):
        cell.observe(value)
    _, *counts, total = cell.values()
    assert counts == [2.0, 1.0, 0.0, 2.0]
    assert total == math.inf


def test_a_summary_counts_and_sums(table: ProcessTable) -> None:
    cell = cell_of(table, SUMMARY)
    cell.observe(3.0)
    cell.observe(4.0)
    assert cell.values() == [2.0, 7.0]


def test_the_same_series_has_one_cell(table: ProcessTable) -> None:
    assert counter(table) is counter(table)
    assert counter(table) is not counter(table, "/other")


def test_what_is_removed_is_absent_and_counts_nowhere_and_comes_back_from_0(table: ProcessTable) -> None:
    cell, other = counter(table), counter(table, "/other")
    cell.inc(5.0)
    other.inc(1.0)
    table.remove([(COUNTER.name, ("/",)), ("nosuch", ())])
    assert math.isnan(read(table)[COUNTER.name, ("/",)][0])
    cell.inc(1.0)  # by who still has it
    assert math.isnan(read(table)[COUNTER.name, ("/",)][0])
    counter(table).inc(2.0)
    assert read(table)[COUNTER.name, ("/",)] == [2.0]
    assert read(table)[COUNTER.name, ("/other",)] == [1.0]


def test_series_that_come_and_go_do_not_make_it_larger(table: ProcessTable, namespace: str) -> None:
    stays = counter(table, "/stays")
    stays.inc(3.0)
    for i in range(5000):
        counter(table, f"/{i}").inc(1.0)
        table.remove([(COUNTER.name, (f"/{i}",))])
    assert read(table)[COUNTER.name, ("/stays",)] == [3.0]
    [path] = files_of(namespace, "web")
    assert path.stat().st_size <= 40_000


def test_past_the_limit_nothing_is_exported_and_the_log_says_so_once(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = ProcessTable(namespace, "web", max_series=3)
    for i in range(10):
        counter(table, f"/{i}").inc(1.0)
    assert len(read(table)) == 3
    assert len(table.cells) == 3
    [record] = caplog.records
    assert record.getMessage().startswith(
        "series not exported: metric 'requests' of application 'web': the limit of 3 series is reached; drop a label"
    )
    assert record.__dict__["metric"] == "requests"
    assert "limit of 3 series" in record.__dict__["error"]


def test_without_memory_the_program_goes_on_and_nothing_is_lost(
    table: ProcessTable, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first = counter(table)
    first.inc(1.0)
    monkeypatch.setattr(file, "build", full)
    for i in range(200):
        counter(table, f"/{i}").inc(1.0)
    first.inc(1.0)
    seen = read(table)
    assert seen[COUNTER.name, ("/",)] == [2.0]
    assert 1 < len(seen) < 201
    table.report()
    [record] = caplog.records
    assert record.getMessage().startswith("series not exported: metric 'requests'")


@pytest.mark.parametrize(
    ("metric", "mode", "said"),
    [
        (GAUGE, "median", "has the mode 'median'; use one of sum, avg"),
        (Metric("u", "untyped", "U."), "sum", "metric 'u' is untyped; an application has"),
        (Metric("g", "gauge", "G.", "", ("pid",)), "each", "has a label 'pid'"),
        (Metric("busy", "counter", "C."), "sum", "metric 'busy' is registered as"),
    ],
)
def test_what_can_t_be_declared_is_refused_by_name(table: ProcessTable, metric: Metric, mode: str, said: str) -> None:
    table.declare(GAUGE, "sum")
    with pytest.raises(MetricError, match=said):
        table.declare(metric, mode)


def test_labels_that_do_not_fit_are_refused(table: ProcessTable) -> None:
    with pytest.raises(MetricError, match="has 1 labels, not 2"):
        table.cell(COUNTER, ("a", "b"))


@pytest.mark.parametrize(
    ("name", "group", "said"),
    [("a.b", "", "the name of an application is 'a.b'"), ("web", "nosuchgroup", "not a group")],
)
def test_a_name_or_group_that_is_none_is_refused(namespace: str, name: str, group: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ProcessTable(namespace, name, group=group)


def test_the_group_may_read_and_nobody_else_may(namespace: str) -> None:
    ProcessTable(namespace, "web", group=str(os.getegid()))
    [path] = files_of(namespace, "web")
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.stat().st_gid == os.getegid()


def test_closed_it_counts_where_nobody_reads(table: ProcessTable) -> None:
    cell = counter(table)
    cell.inc(1.0)
    table.close()
    table.close()
    cell.inc(1.0)
    counter(table, "/new").inc(1.0)
    reader = TableReader(table.namespace, "web", table.who, {os.geteuid()})
    reader.refresh()
    assert reader.values().tolist() == [1.0]
    assert not reader.alive()
    reader.close()


# ---- forks ---------------------------------------------------------------------------------------------------


def store(table: ProcessTable) -> None:
    counter(table, "a").inc(2.0)
    cell_of(table, GAUGE, mode="each").set(4.0)
    cell_of(table, HISTOGRAM).observe(0.3)


def test_a_fork_counts_from_0_in_a_table_of_its_own(table: ProcessTable, namespace: str) -> None:
    def child() -> None:
        store(table)
        counter(table, "b").inc(5.0)

    store(table)
    pid = in_fork(child)
    assert merged(namespace) == {
        "requests{a}": [4.0],
        "requests{b}": [5.0],
        f"busy{{{os.getpid()}}}": [4.0],
        "seconds{}": [pytest.approx(math.nan, nan_ok=True), 0.0, 2.0, 2.0, 2.0, 0.6],
    }
    assert len([path for path in files_of(namespace, "web") if f".{pid}-" in path.name]) == 1
    counter(table, "a").inc(1.0)
    assert merged(namespace)["requests{a}"] == [5.0]


def test_a_fork_that_stores_nothing_has_no_table(table: ProcessTable, namespace: str) -> None:
    in_fork(counter(table, "a").get)
    assert len(files_of(namespace, "web")) == 1


def test_a_fork_may_fork_and_each_reads_its_own(table: ProcessTable, namespace: str) -> None:
    cell = counter(table, "a")

    def count(before: float, more: Callable[[], object]) -> None:
        assert cell.get() == before
        cell.inc(1.0)
        more()
        assert cell.get() == before + 1.0

    count(0.0, lambda: in_fork(lambda: count(0.0, lambda: in_fork(lambda: count(0.0, lambda: None)))))
    assert merged(namespace) == {"requests{a}": [3.0]}


def test_a_fork_beside_a_thread_that_holds_the_lock_does_not_wait_for_it(table: ProcessTable, namespace: str) -> None:
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with table.lock:
            held.set()
            go.wait(30)

    cell = counter(table, "a")
    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    in_fork(lambda: cell.inc(3.0))
    assert thread.is_alive()
    go.set()
    thread.join()
    assert merged(namespace) == {"requests{a}": [3.0]}


def test_what_was_removed_before_a_fork_stays_so_in_the_child(table: ProcessTable, namespace: str) -> None:
    counter(table, "a").inc(2.0)
    counter(table, "z").inc(1.0)
    table.remove([(COUNTER.name, ("a",))])
    in_fork(lambda: counter(table, "z").inc(1.0))
    assert merged(namespace) == {"requests{z}": [2.0]}


def test_series_that_are_new_in_the_child_are_there(table: ProcessTable, namespace: str) -> None:
    in_fork(lambda: [counter(table, str(i)).inc(1.0) for i in range(300)])
    assert merged(namespace) == {f"requests{{{i}}}": [1.0] for i in range(300)}


def test_a_child_without_memory_for_a_table_goes_on(
    table: ProcessTable, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def child() -> None:
        monkeypatch.setattr(file, "build", full)
        counter(table, "a").inc(1.0)
        counter(table, "new").inc(1.0)

    counter(table, "a").inc(2.0)
    in_fork(child)
    assert merged(namespace) == {"requests{a}": [2.0]}
