"""Folding the dead, and removing series from all processes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from shm.errors import WriterBusy
from shm.metric import Metric
from shm.ring.lock import WriterLock
from shm.table import dead as dead_tables
from shm.table import removal
from shm.table.format import files_of, fold_lock_path, listed, table_path
from shm.table.process import ProcessTable
from tests.application import Process, cell_of, merged
from tests.rings import namespace as namespace
from tests.rings import overwrite

COUNTER = Metric("requests", "counter", "Requests.", "", ("path",))
HISTOGRAM = Metric("seconds", "histogram", "Time.", "seconds", (), (0.1, 0.5))
SUMMARY = Metric("bytes", "summary", "Size.")
GAUGE = Metric("busy", "gauge", "Busy.")


def dead(namespace: str, count: Callable[[ProcessTable], None]) -> Path:
    """The table of a process that did that and died."""
    table = ProcessTable(namespace, "web")
    count(table)
    path = table_path(namespace, "web", table.who)
    table.close()
    return path


def counts(path: str, amount: float) -> Callable[[ProcessTable], None]:
    return lambda table: cell_of(table, COUNTER, path).inc(amount)


def sets(mode: str, *arguments: float) -> Callable[[ProcessTable], None]:
    return lambda table: cell_of(table, GAUGE, mode=mode).set(*arguments)


def observes(metric: Metric, *values: float) -> Callable[[ProcessTable], None]:
    def observe(table: ProcessTable) -> None:
        for value in values:
            cell_of(table, metric).observe(value)

    return observe


def test_what_the_dead_had_counted_is_kept_and_their_tables_go(namespace: str) -> None:
    for amount in (1.0, 2.0, 4.0):
        dead(namespace, counts("/", amount))
    dead(namespace, counts("/other", 8.0))
    for metric in (HISTOGRAM, SUMMARY) * 2:
        dead(namespace, observes(metric, 0.05, 0.3, 2.0))
    before = merged(namespace)
    assert dead_tables.fold(namespace, "web") == 8
    assert listed(namespace) == {"web": ["retired"]}
    after = merged(namespace)
    assert str(after) == str(before)  # with the NaN of the histogram's raw sample
    assert (after["requests{/}"], after["requests{/other}"]) == ([7.0], [8.0])
    assert after["seconds{}"][1:] == [2.0, 4.0, 6.0, pytest.approx(4.7)]
    assert after["bytes{}"] == [6.0, pytest.approx(4.7)]
    assert dead_tables.fold(namespace, "web") == 0
    dead(namespace, counts("/", 1.0))
    assert dead_tables.fold(namespace, "web") == 1
    assert merged(namespace)["requests{/}"] == [8.0]


@pytest.mark.parametrize(
    ("mode", "values", "kept"),
    [("sum", (1.0, 2.0), None), ("avg", (1.0, 2.0), None), ("each", (1.0, 2.0), None), ("min", (1.0, 2.0), None),
     ("max", (1.0, 2.0), None), ("latest", (1.0, 2.0), None),
     ("min+dead", (2.0, 1.0, 3.0), 1.0), ("max+dead", (2.0, 3.0, 1.0), 3.0)],
)  # fmt: skip
def test_gauges_of_the_dead_vanish_but_for_the_modes_that_keep_them(
    namespace: str, mode: str, values: tuple[float, ...], kept: float | None
) -> None:
    for value in values:
        dead(namespace, sets(mode, value))
    wanted = {} if kept is None else {"busy{}": [kept]}
    assert merged(namespace) == wanted
    dead_tables.fold(namespace, "web")
    assert merged(namespace) == wanted
    dead(namespace, sets(mode, values[0]))
    dead_tables.fold(namespace, "web")
    assert merged(namespace) == wanted


def test_the_latest_of_the_dead_is_the_one_that_was_set_last(namespace: str) -> None:
    for value, seconds in ((1.0, 20.0), (2.0, 30.0), (3.0, 10.0)):
        dead(namespace, sets("latest+dead", value, seconds))
        dead_tables.fold(namespace, "web")
    assert merged(namespace) == {"busy{}": [2.0]}
    living = ProcessTable(namespace, "web")
    sets("latest+dead", 9.0, 25.0)(living)
    assert merged(namespace) == {"busy{}": [2.0]}
    sets("latest+dead", 9.0, 35.0)(living)
    assert merged(namespace) == {"busy{}": [9.0]}


def test_of_two_definitions_that_of_the_later_process_holds(namespace: str) -> None:
    def observes_with(*bounds: float) -> Callable[[ProcessTable], None]:
        return observes(Metric("seconds", "histogram", "T.", "seconds", (), bounds), 0.2)

    old = ProcessTable(namespace, "web")
    observes_with(0.1, 0.5)(old)
    dead(namespace, observes_with(0.25))
    old.close()  # which began first, and dies last
    dead_tables.fold(namespace, "web")
    assert merged(namespace)["seconds{}"][1:] == [1.0, 1.0, pytest.approx(0.2)]
    dead(namespace, observes_with(0.1, 0.2, 0.3))
    dead_tables.fold(namespace, "web")
    assert merged(namespace)["seconds{}"][1:] == [0.0, 1.0, 1.0, 1.0, pytest.approx(0.2)]


def test_a_table_that_can_t_be_read_is_set_aside_and_costs_no_other(
    namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = dead(namespace, counts("/", 1.0))
    dead(namespace, counts("/", 2.0))
    overwrite(broken, 0, b"x")
    assert dead_tables.fold(namespace, "web") == 1
    assert merged(namespace) == {"requests{/}": [2.0]}
    assert broken.with_suffix(".corrupt").exists()
    assert [one.getMessage() for one in caplog.records] == ["table set aside"]


def test_the_dead_s_table_that_can_t_be_read_is_set_aside(namespace: str) -> None:
    dead(namespace, counts("/", 1.0))
    dead_tables.fold(namespace, "web")
    path = table_path(namespace, "web", "retired")
    overwrite(path, 0, b"x")
    dead(namespace, counts("/", 2.0))
    assert dead_tables.fold(namespace, "web") == 1
    assert merged(namespace) == {"requests{/}": [2.0]}
    assert path.with_suffix(".corrupt").exists()


def test_what_was_left_by_who_died_building_is_removed_when_it_is_old(namespace: str) -> None:
    path = dead(namespace, counts("/", 1.0)).with_suffix(".new")
    path.write_bytes(b"half")
    fresh = path.with_name(path.name.replace(".new", "x.new"))
    fresh.write_bytes(b"half")
    os.utime(path, (time.time() - 100, time.time() - 100))
    dead_tables.fold(namespace, "web")
    assert not path.exists()
    assert fresh.exists()
    fresh.unlink()


def test_while_another_folds_nothing_is_done_and_nobody_waits(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    dead(namespace, counts("/", 1.0))
    lock = WriterLock.acquire(fold_lock_path(namespace, "web"), "web")
    try:
        assert dead_tables.fold(namespace, "web") == 0
        monkeypatch.setattr(removal, "_LOCK_SECONDS", 0.01)
        with pytest.raises(WriterBusy):
            removal.remove_elsewhere(ProcessTable(namespace, "web"), ("requests", ("/",)).__eq__)
    finally:
        lock.release()
    assert dead_tables.fold(namespace, "web") == 1


# ---- removal -------------------------------------------------------------------------------------------------

BEGIN = (
    "from fogmetrics.application.shared_collector import SharedCollector; collector = SharedCollector('web'); "
    "collector.register_metric('r', 'counter', label_names=('p',)); "
    "collector.register_metric('g', 'gauge'); collector.register_metric('h', 'histogram', buckets=(1.0,)); "
    "collector.register_metric('s', 'summary')"
)
COUNT = (
    "[collector.increment('r', 2, {'p': 'a'}), collector.increment('r', 2, {'p': 'b'}), "
    "collector.record_metric('g', 3), "
    "collector.record_metric('h', 0.5), collector.record_metric('s', 0.5)] and None"
)
EVERYTHING = {"r{a}", "r{b}", "g{}", "h{}", "s{}"}
REMOVE = (
    "[collector.remove('r', {'p': 'a'}), collector.clear('g'), collector.clear('h'), collector.remove('s')] and None"
)


def test_a_series_that_one_process_removes_is_gone_in_all_and_begins_at_0_again(namespace: str) -> None:
    with Process(namespace, BEGIN) as one, Process(namespace, BEGIN) as two, Process(namespace, BEGIN) as three:
        for process in (one, two, three):
            process.do(COUNT)
        three.kill()
        assert set(merged(namespace)) == EVERYTHING
        one.do(REMOVE)
        assert merged(namespace) == {"r{b}": [6.0]}
        two.do("collector.increment('r', 1, {'p': 'a'}), collector.record_metric('h', 0.25)")
        two.do("collector.record_metric('s', 0.25)")
        found = merged(namespace)
        assert found["r{a}"] == [1.0]
        assert found["h{}"][1:] == [1.0, 1.0, 0.25]
        assert found["s{}"] == [1.0, 0.25]
        two.do("collector.record_metric('g', 7)")
        assert merged(namespace)["g{}"] == [7.0]
        one.do("collector.increment('r', 10, {'p': 'a'})")
        assert merged(namespace)["r{a}"] == [11.0]
        two.kill()
        for _ in range(2):
            assert merged(namespace)["r{a}"] == [11.0]
            assert merged(namespace)["h{}"][1:] == [1.0, 1.0, 0.25]
            dead_tables.fold(namespace, "web")
        assert "g{}" not in merged(namespace)
        one.do(REMOVE)
        assert merged(namespace) == {"r{b}": [6.0]}


def test_removing_twice_and_by_turns_keeps_the_count_right(namespace: str) -> None:
    with Process(namespace, BEGIN) as one, Process(namespace, BEGIN) as two:
        for turn in range(5):
            for process in (one, two):
                process.do("collector.increment('r', 1, {'p': 'a'})")
            assert merged(namespace)["r{a}"] == [2.0]
            (one, two)[turn % 2].do("collector.remove('r', {'p': 'a'})")
            assert "r{a}" not in merged(namespace)
        assert len(files_of(namespace, "web")) == 3


def test_a_removed_series_stays_removed_when_its_process_removes_another(namespace: str) -> None:
    zero, one = ProcessTable(namespace, "web"), ProcessTable(namespace, "web")
    counts("/a", 1.0)(zero)
    counts("/b", 1.0)(one)
    for table, path in ((zero, "/b"), (one, "/a")):
        table.remove([("requests", (path,))])
        removal.remove_elsewhere(table, ("requests", (path,)).__eq__)
    assert merged(namespace) == {}
    counts("/b", 5.0)(one)
    assert merged(namespace) == {"requests{/b}": [5.0]}


def test_what_nobody_else_has_writes_no_table_of_the_dead(namespace: str) -> None:
    with Process(namespace, BEGIN) as one, Process(namespace, BEGIN):
        one.do("collector.increment('r', 1, {'p': 'own'})")
        one.do("collector.remove('r', {'p': 'own'})")
        assert not table_path(namespace, "web", "retired").exists()


def test_removal_meets_processes_that_grew_came_and_went(namespace: str) -> None:
    with Process(namespace, BEGIN) as one, Process(namespace, BEGIN) as two:
        one.do(COUNT)
        two.do(COUNT)
        one.do("collector.remove('r', {'p': 'a'})")
        two.do("[collector.increment('r', 1, {'p': str(i)}) for i in range(300)] and None")  # grows
        one.do("collector.remove('r', {'p': '299'}), collector.increment('r', 1, {'p': '299'})")
        assert merged(namespace)["r{299}"] == [1.0]
        with Process(namespace, BEGIN) as three:
            three.do("collector.increment('r', 1, {'p': '299'})")
            two.kill()
            three.do("collector.remove('r', {'p': '299'})")
            assert "r{299}" not in merged(namespace)
            assert merged(namespace)["r{298}"] == [1.0]
