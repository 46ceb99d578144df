"""Stores take no lock, and none is lost: threads that take turns as often as they can, a table that grows beside."""

from __future__ import annotations

import os

import pytest

from shm.metric import Metric
from shm.table.merge import ApplicationReader
from shm.table.process import ProcessTable
from shm.table.reader import TableReader
from tests.application import Process, merged
from tests.rings import namespace as namespace

BEGIN = """\
import sys, threading
from shm.table import cells, process
from shm.metric import Metric
table = process.ProcessTable({namespace!r}, "web")
C = Metric("c", "counter", "C.", "", ("n",))
count, many = table.cell(C, ("all",)), Metric("many", "counter", "M.", "", ("n",))
busy = table.cell(Metric("busy", "gauge", "B."), ())
seconds = table.cell(Metric("seconds", "histogram", "S.", "", (), (1.0, 2.0)), ())
size = table.cell(Metric("size", "summary", "S."), ())
latest = table.cell(Metric("latest", "gauge", "L."), (), "latest")
"""
COUNT = """\
def store(number):
    for n in range(5000):
        count.inc(1.0); busy.inc(1.0); busy.inc(-1.0); busy.inc(1.0); seconds.observe(1.5); size.observe(2.0)
        latest.set(float(n), float(n))
def grow():
    for n in range(3000):
        table.cell(many, (str(n),)).inc(1.0)
"""
RUN = """\
sys.setswitchinterval(1e-6)
threads = [threading.Thread(target=store, args=(n,)) for n in range(4)] + [threading.Thread(target=grow)]
for one in threads: one.start()
for one in threads: one.join(60)
"""


@pytest.mark.parametrize("locked", [False, True])
def test_threads_lose_no_store_beside_a_table_that_grows(namespace: str, locked: bool) -> None:
    with Process(namespace, BEGIN.format(namespace=namespace)) as process:
        if locked:
            process.do("cells.lock_every_store()")
        process.do(COUNT)
        process.do(RUN)
        found = merged(namespace)
        assert found["c{all}"] == [20_000.0]
        assert found["busy{}"] == [20_000.0]
        assert found["seconds{}"][1:] == [0.0, 20_000.0, 20_000.0, 30_000.0]
        assert found["size{}"] == [20_000.0, 40_000.0]
        assert found["latest{}"] == [4999.0]
        assert [found[f"many{{{n}}}"] for n in range(3000)] == [[1.0]] * 3000


def test_a_gauge_of_a_table_that_grows_while_it_is_read_is_there(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ProcessTable(namespace, "web")
    busy = table.cell(Metric("busy", "gauge", "B."), (), first=3.0)
    reader = ApplicationReader(namespace, "web", {os.geteuid()})
    alive = TableReader.alive

    def grown_before(self: TableReader) -> bool:
        monkeypatch.setattr(TableReader, "alive", alive)
        for n in range(200):
            table.cell(Metric("many", "counter", "M.", "", ("n",)), (str(n),))
        return alive(self)

    monkeypatch.setattr(TableReader, "alive", grown_before)
    values = reader.refresh([table.who])
    assert reader.processes == 1
    assert [values[one.column] for one in reader.plan.series if one.metric.name == "busy"] == [3.0]
    assert busy.values() == [3.0]
    reader.close()
