"""Tables under what programs do to themselves: signals, destructors, forks, closed descriptors, odd deaths."""

from __future__ import annotations

import contextlib
import fcntl
import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fogmetrics.application import drop_in_page, shared_collector
from shm.errors import NoSpace
from shm.files import DIRECTORY
from shm.metric import Metric
from shm.ring.layout import ABSENT, MAX_WIDTH
from shm.ring.lock import record_lock
from shm.table import dead, removal
from shm.table.descriptors import unlink
from shm.table.format import RETIRED, identity, listed, table_path
from shm.table.merge import ApplicationReader
from shm.table.process import ProcessTable
from shm.table.reader import TableReader
from tests.application import cell_of, merged
from tests.rings import in_fork

HITS = Metric("hits", "counter", "Hits.", label_names=("of",))
PLAIN = Metric("plain", "counter", "Without labels.")
LEVEL = Metric("level", "gauge", "A level.", label_names=("of",))
WIDE = Metric("wide", "histogram", "Wide.", label_names=("of",), buckets=tuple(map(float, range(60))))


class Raised(Exception):
    """By a signal's handler."""


@pytest.fixture
def table(namespace: str) -> Iterator[ProcessTable]:
    made = ProcessTable(namespace, "web")
    yield made
    made.close()


def counter(table: ProcessTable, of: str) -> Any:
    return cell_of(table, HITS, of)


def seen_locked(path: Path) -> bool:
    """Whether another process sees the lock."""
    code = (
        "import os, sys; from shm.ring.lock import record_lock\n"
        "sys.exit(record_lock(os.open(sys.argv[1], os.O_RDONLY)) is not None)"
    )
    return subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 1


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@contextlib.contextmanager
def alarms(handler: Callable[[int, object], None]) -> Iterator[None]:
    """A signal 150 µs after the end of the handler of the one before."""

    over = False

    def handle(number: int, frame: object) -> None:
        if over:
            return
        try:
            handler(number, frame)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.00015)

    before = signal.signal(signal.SIGALRM, handle)
    signal.setitimer(signal.ITIMER_REAL, 0.00015)
    try:
        yield
    finally:
        over = True
        signal.setitimer(signal.ITIMER_REAL, 0)
        time.sleep(0.01)  # a signal that came before is handled; Python complains if its handler is gone by then
        signal.signal(signal.SIGALRM, before)


# ---- descriptors and locks -----------------------------------------------------------------------------------


def test_a_page_of_ones_own_costs_no_descriptor_and_frees_no_lock(namespace: str, table: ProcessTable) -> None:
    counter(table, "a").inc(1.0)
    path = table_path(namespace, "web", table.who)
    gc.collect()  # tables of other tests
    before = descriptors()
    for number in range(200):  # it grows
        counter(table, str(number))
    for _ in range(20):
        list(drop_in_page.families(namespace, "web"))
    assert descriptors() <= before + 1
    assert seen_locked(path)


def test_a_reader_that_refuses_our_own_table_frees_no_lock(namespace: str, table: ProcessTable) -> None:
    reader = ApplicationReader(namespace, "web", {os.geteuid() + 1})
    reader.refresh([table.who])
    assert reader.errors
    reader.close()
    assert seen_locked(table_path(namespace, "web", table.who))


def test_clearing_litter_frees_no_lock_of_a_table_that_is_built_beside(namespace: str, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    table = ProcessTable(namespace, "web")
    rename = os.rename

    def folding(source: str, target: str) -> None:
        os.utime(source, (0, 0))
        dead.fold(namespace, "web")
        rename(source, target)
        dead.fold(namespace, "web")

    monkeypatch.setattr(os, "rename", folding)
    cell = counter(table, "0")
    for number in range(200):
        counter(table, str(number)).inc(1.0)
    monkeypatch.undo()
    cell.inc(1.0)
    assert table_path(namespace, "web", table.who).exists()
    assert seen_locked(table_path(namespace, "web", table.who))
    assert merged(namespace)["hits{0}"] == [2.0]
    table.close()


def test_a_program_that_closes_all_descriptors_loses_no_count_and_no_file(namespace: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"

    code = """
import os, subprocess, sys
from shm.metric import Metric
from shm.table.process import ProcessTable
namespace, victim = sys.argv[1:]
table = ProcessTable(namespace, "web")
hits = Metric("hits", "counter", "Hits.", label_names=("of",))
table.cell(hits, ("first",)).inc(1.0)
os.closerange(3, 200)
taken = [os.open(victim, os.O_RDWR | os.O_CREAT) for _ in range(100)]
for number in range(300):
    table.cell(hits, (str(number),)).inc(1.0)
    if number == 20:
        fold = "import sys; from shm.table.dead import fold; print(fold(sys.argv[1], 'web'))"
        assert subprocess.check_output([sys.executable, "-c", fold, namespace]) == b"0\\n"
table.cell(hits, ("first",)).inc(1.0)
for fd in taken:
    assert os.path.sameopenfile(fd, taken[0])
"""
    subprocess.run([sys.executable, "-c", code, namespace, str(victim)], check=True)
    assert victim.read_bytes() == b""
    dead.fold(namespace, "web")
    found = merged(namespace)
    assert found.pop("hits{first}") == [2.0]
    assert list(found.values()) == [[1.0]] * 300


def test_what_lies_in_the_way_is_removed_on_purpose(namespace: str) -> None:
    link = table_path(namespace, "web", identity(1, 1))
    link.symlink_to("/nowhere")
    os.mkfifo(table_path(namespace, "web", identity(1, 2)))
    assert len(unlink(namespace, "web")) == 2


def test_ones_own_table_is_not_unlinked(namespace: str, table: ProcessTable) -> None:
    with pytest.raises(Exception, match=f"process {os.getpid()} already writes"):
        unlink(namespace, "web")
    assert seen_locked(table_path(namespace, "web", table.who))


# ---- signals and destructors ---------------------------------------------------------------------------------


def test_no_count_of_a_signals_handler_is_lost_while_the_table_grows(namespace: str, table: ProcessTable) -> None:
    ticks, shared_count = 0, counter(table, "shared")
    names: dict[str, int] = {}

    def handler(number: int, frame: object) -> None:
        nonlocal ticks
        ticks += 1
        shared_count.inc(1.0)
        name = f"late{ticks % 500}"
        counter(table, name).inc(1.0)
        names[name] = names.get(name, 0) + 1

    done = 0
    with alarms(handler):
        for number in range(1500):
            counter(table, f"s{number}").inc(1.0)
            shared_count.inc(1.0)
            done += 1
            if number % 100 == 99:
                table.remove([("hits", (f"s{number - at}",)) for at in range(50)])
    counter(table, "the end")
    found = merged(namespace)
    assert ticks > 20
    assert found["hits{shared}"] == [ticks + done]
    assert {name: found[f"hits{{{name}}}"] for name in names} == {name: [count] for name, count in names.items()}


# What a handler raises may come between a file's opening and its "with": Python then closes it late, and says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_exception_of_a_signals_handler_leaves_every_series_whole(namespace: str, table: ProcessTable) -> None:
    counted: dict[str, int] = {}
    raised = 0

    def handler(number: int, frame: object) -> None:
        raise Raised

    signal.signal(signal.SIGALRM, handler)
    for number in range(3000):
        name = f"n{number % 700}-{number // 1400}"
        counted.setdefault(name, 0)
        try:
            try:
                if number % 7 == 0:
                    signal.setitimer(signal.ITIMER_REAL, 0.00002 + number % 13 * 0.00003)
                counter(table, name).inc(1.0)
                counted[name] += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Raised:
            raised += 1
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    counter(table, "the end")
    assert raised
    found = merged(namespace)
    off = 0
    for name, count in counted.items():
        value = found.get(f"hits{{{name}}}", [0.0])[0]
        assert count <= value, name
        off += int(value - count)
    assert off <= raised


def test_a_destructor_may_remove_series(namespace: str, table: ProcessTable) -> None:
    class Session:
        def __init__(self, name: str) -> None:
            self.me = self  # for the collector of garbage alone
            self.name = name
            counter(table, name).inc(1.0)

        def __del__(self) -> None:
            shared_collector.remove(table, ("hits", (self.name,)).__eq__)

    threshold = gc.get_threshold()
    gc.set_threshold(30)
    try:
        for number in range(400):
            Session(f"session{number}")
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    counter(table, "the end")
    assert set(merged(namespace)) == {"hits{the end}"}


def test_a_programs_log_handler_may_count_what_is_logged(namespace: str) -> None:
    table = ProcessTable(namespace, "web", max_series=20)
    lines = counter(table, "lines")

    class Counting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.inc(1.0)

    handler = Counting()
    root = logging.getLogger()
    root.addHandler(handler)

    def logging_much() -> None:
        for _ in range(20000):
            logging.getLogger("other").warning("line")

    def over_the_limit() -> None:
        for number in range(400):
            table.cell(Metric(f"m{number}", "counter", "One."), ())

    threads = [threading.Thread(target=work, daemon=True) for work in (logging_much, over_the_limit)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
    finally:
        root.removeHandler(handler)
    table.close()


# ---- threads, removal, forks ---------------------------------------------------------------------------------


def test_a_thread_that_holds_a_removed_series_counts_in_no_other(namespace: str, table: ProcessTable) -> None:
    first = counter(table, "first")
    first.inc(1.0)
    removed = counter(table, "removed")
    table.remove([removed.key])
    removed.inc(5.0)
    table.cell(WIDE, ("x",))
    removed.inc(5.0)
    stop = threading.Event()
    current: list[Any] = [counter(table, "r")]

    def counting() -> None:
        while not stop.is_set():
            current[0].inc(1.0)

    threads = [threading.Thread(target=counting) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(600):
        table.remove([("hits", ("r",))])
        current[0] = counter(table, "r")
        if number % 5 == 0:
            counter(table, f"grow{number}")
    stop.set()
    for thread in threads:
        thread.join()
    found = merged(namespace)
    assert found["hits{first}"] == [1.0]
    assert all(found[f"hits{{grow{number}}}"] == [0.0] for number in range(0, 600, 5))


def test_a_child_that_removes_first_of_all_removes_its_parents(namespace: str, table: ProcessTable) -> None:
    counter(table, "a").inc(1.0)
    counter(table, "b").inc(2.0)

    def child() -> None:
        shared_collector.remove(table, ("hits", ("a",)).__eq__)
        counter(table, "b").inc(1.0)

    in_fork(child)
    assert merged(namespace) == {"hits{b}": [3.0]}


def test_a_fork_at_any_moment_finds_a_whole_table(namespace: str, table: ProcessTable) -> None:
    stop = threading.Event()

    def growing() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            counter(table, f"g{number % 3000}").inc(1.0)
            if number % 200 == 0:
                table.remove([("hits", (f"g{at % 3000}",)) for at in range(number - 150, number)])

    fixed = counter(table, "fixed")
    thread = threading.Thread(target=growing)
    thread.start()

    def child() -> None:
        fixed.inc(1.0)
        counter(table, "of the child").inc(1.0)
        own = TableReader(namespace, "web", table.who, {os.geteuid()})
        own.refresh()
        assert not own.catalog.error
        columns = {series.label_values[0]: series.column for series in own.catalog.series}
        assert own.values()[columns["fixed"]] == 1.0
        assert own.values()[columns["of the child"]] == 1.0
        assert sum(value for value in own.values() if value == value) == 2.0

    try:
        for _ in range(40):
            in_fork(child)
    finally:
        stop.set()
        thread.join()
    assert merged(namespace)["hits{fixed}"] == [40.0]


# ---- limits --------------------------------------------------------------------------------------------------


def test_a_table_never_gets_wider_than_a_reader_takes(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shm.table.file.MAX_WIDTH", 2000)
    table = ProcessTable(namespace, "web")
    for number in range(100):
        table.cell(WIDE, (str(number),)).add(62, 1.0)
    own = TableReader(namespace, "web", table.who, {os.geteuid()})
    assert own.header.width <= 2000
    own.close()
    assert len(merged(namespace)) == 2000 // 63
    table.close()


def test_the_dead_are_not_put_where_nobody_reads(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def die() -> None:
        table = ProcessTable(namespace, "web")
        for number in range(20):
            table.cell(WIDE, (f"{os.getpid()}-{number}",)).add(62, 1.0)

    in_fork(die)
    monkeypatch.setattr("shm.table.dead.MAX_WIDTH", 1000)
    with pytest.raises(NoSpace):
        dead.fold(namespace, "web")
    assert len(merged(namespace)) == 20
    monkeypatch.setattr("shm.table.dead.MAX_WIDTH", MAX_WIDTH)
    assert dead.fold(namespace, "web") == 1
    assert len(merged(namespace)) == 20


# ---- folding and merging -------------------------------------------------------------------------------------


def counts(namespace: str, of: str, value: float) -> None:
    counter(ProcessTable(namespace, "web"), of).inc(value)


def test_names_that_were_listed_before_the_first_fold_do_not_lose_the_dead(namespace: str) -> None:
    in_fork(lambda: counts(namespace, "a", 3.0))
    before = listed(namespace)["web"]
    assert dead.fold(namespace, "web") == 1
    assert merged(namespace, identities=before) == {"hits{a}": [3.0]}


def test_a_table_that_takes_anothers_place_in_memory_is_laid_out_anew(namespace: str, table: ProcessTable) -> None:
    reader = ApplicationReader(namespace, "web", {os.geteuid()})
    for number in range(60):
        counter(table, f"{number:03}").inc(float(number))
    wrong = 0
    for number in range(60, 300):
        table.remove([("hits", (f"{number - 60:03}",))])
        counter(table, f"{number:03}").inc(float(number))
        values = reader.refresh([table.who])
        for series in reader.plan.series:
            value = values[series.column]
            wrong += value == value and value != float(series.label_values[0])
    reader.close()
    assert not wrong


def test_a_series_that_its_process_removed_after_another_did_is_absent_and_then_new(namespace: str) -> None:
    mine, absent = array("d", [7.0]).tobytes(), ABSENT
    assert dead.since_removal(absent, mine, gauge=False) == absent
    assert dead.since_removal(mine, mine, gauge=False) == absent
    assert dead.since_removal(array("d", [9.0]).tobytes(), mine, gauge=False) == array("d", [2.0]).tobytes()
    assert dead.since_removal(array("d", [1.0]).tobytes(), mine, gauge=False) == array("d", [1.0]).tobytes()


def test_what_was_folded_and_can_not_be_removed_counts_once(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    in_fork(lambda: counts(namespace, "a", 3.0))
    monkeypatch.setattr(Path, "unlink", lambda *arguments, **named: None)
    assert dead.fold(namespace, "web") == 1  # as where its process died behind the publication
    monkeypatch.undo()
    assert merged(namespace) == {"hits{a}": [3.0]}
    in_fork(lambda: counts(namespace, "a", 1.0))
    opened = dead._if_dead

    def unable(namespace: str, application: str, who: str, stack: contextlib.ExitStack) -> TableReader | None:
        table = opened(namespace, application, who, stack)
        return None if table is not None and table.values()[0] == 3.0 else table

    monkeypatch.setattr(dead, "_if_dead", unable)  # as without descriptors
    assert dead.fold(namespace, "web") == 1
    monkeypatch.undo()
    assert merged(namespace) == {"hits{a}": [4.0]}
    assert dead.fold(namespace, "web") == 1
    assert merged(namespace) == {"hits{a}": [4.0]}


def test_a_fold_does_not_make_a_definition_older(namespace: str) -> None:
    in_fork(lambda: counts(namespace, "a", 1.0))
    dead.fold(namespace, "web")

    with contextlib.closing(ProcessTable(namespace, "web")) as other:
        cell_of(other, Metric("hits", "gauge", "Another.", label_names=("of",)), "a").set(99.0)
        in_fork(lambda: counts(namespace, "a", 1.0))
        for _ in range(2):
            assert merged(namespace) == {"hits{a}": [2.0]}
            dead.fold(namespace, "web")


def test_nothing_that_lies_there_is_raised_into_the_program(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> int:
        raise KeyError("whatever")

    monkeypatch.setattr(dead, "fold", broken)
    monkeypatch.setattr(removal, "remove_elsewhere", broken)
    table = shared_collector.table_of("web", namespace)
    shared_collector.remove(table, ("hits", ("a",)).__eq__)
    table.close()
    del shared_collector._tables[namespace, "web"]  # or the end of this process would fold it once more


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user: run the tests as root")
def test_tables_of_another_user_are_not_opened(
    namespace: str, table: ProcessTable, caplog: pytest.LogCaptureFixture
) -> None:
    counter(table, "a").inc(1.0)
    foreign = [table_path(namespace, "web", who) for who in (RETIRED, identity(1, 1))]
    for path in foreign:
        path.touch()
        os.chown(path, 4242, -1)
    reader = ApplicationReader(namespace, "web", {os.geteuid()})
    reader.refresh([table.who])
    assert (reader.errors, reader.tables) == ({}, 1)
    reader.close()
    in_fork(lambda: counts(namespace, "a", 1.0))
    foreign[0].unlink()
    assert dead.fold(namespace, "web") == 1
    shared_collector.remove(table, ("hits", ("a",)).__eq__)
    assert caplog.records == []


def test_the_lock_of_the_fold_is_the_one_that_others_see(namespace: str) -> None:
    in_fork(lambda: counts(namespace, "a", 1.0))
    path = DIRECTORY / f"fogmetrics.{namespace}.web.retired.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    assert record_lock(fd) is None  # ours
    os.close(fd)
    assert dead.fold(namespace, "web") == 1


def test_what_a_handler_counted_in_a_series_that_waits_is_not_a_childs(namespace: str, table: ProcessTable) -> None:
    counter(table, "a")
    table._busy = True  # as in the middle of a growth
    counter(table, "waits").inc(1.0)
    in_fork(lambda: counter(table, "waits").inc(1.0))
    table._busy = False
    counter(table, "the end")
    assert merged(namespace)["hits{waits}"] == [2.0]


def test_a_destructor_that_removes_while_its_thread_removes_does_not_wait_for_itself(
    namespace: str, table: ProcessTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("shm.table.dead.time.sleep", slept.append)
    with dead.fold_lock(namespace, "web", wait_seconds=2.0) as ours:
        assert ours
        shared_collector.remove(table, ("hits", ("a",)).__eq__)
    assert not slept
