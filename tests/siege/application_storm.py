"""Processes of an application that begin, count, grow, fork, fold, stop and are killed, under a reader without pause.

Every process writes down in shared memory of the check's own (a **ledger**) what it is about to count and what it has
counted. So each scrape has exact bounds: what was counted before it began is in it, and nothing that was not begun when
it ended. ``python -m tests.siege.application_storm PROGRAM NAMESPACE …``, see :mod:`tests.siege.processes`.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import random
import signal
import sys
import threading
import time
import types
from collections.abc import Callable
from functools import partial
from typing import Final

from fogmetrics.application.shared_collector import SharedCollector
from shm.errors import FogmetricsError
from shm.table import dead, merge, process
from shm.table import format as tables
from shm.table.format import RETIRED
from shm.table.process import ProcessTable
from tests.application import cell_of
from tests.rings import remove_files_of
from tests.siege.application_tables import (
    APPLICATION,
    HERE,
    HITS,
    MORE,
    OURS,
    TAKEN,
    Series,
    at_call,
    by_label,
    count,
    identities,
    reading,
    reclaim,
    scraped,
    shown,
)
from tests.siege.harness import require
from tests.siege.processes import Done, adopt_orphans, fork, kill_all, main, reaped

_SLOTS: Final = 16  # a process and its threads and forks
_GROUPS: Final = 5
_ROLES: Final = ("plain", "growing", "threads", "forks", "folding")


class Ledger:
    """Words that outlive every process: what was begun and what was done, by slot, which one thread alone writes."""

    def __init__(self, slots: int) -> None:
        self._words = memoryview(mmap.mmap(-1, 16 * slots)).cast("q")

    def begin(self, slot: int) -> None:
        self._words[2 * slot] += 1

    def end(self, slot: int) -> None:
        self._words[2 * slot + 1] += 1

    def done(self) -> int:
        return sum(self._words[1::2].tolist())

    def begun(self) -> int:
        return sum(self._words[::2].tolist())


# ---- the storm -----------------------------------------------------------------------------------------------


class Process:
    """What one process of the storm does, until it is killed."""

    def __init__(self, namespace: str, ledger: Ledger, slot: int, seed: int) -> None:
        self.namespace, self.ledger, self.slot = namespace, ledger, slot
        self.random = random.Random(seed)

    def run(self) -> None:
        os.nice(10)  # flat out, but for the reader
        with contextlib.suppress(FogmetricsError):
            dead.fold(self.namespace, APPLICATION)
        self.table = ProcessTable(self.namespace, APPLICATION)
        cell_of(self.table, HERE).set(1.0)
        role = _ROLES[self.slot // _SLOTS % len(_ROLES)]
        if role == "threads":
            for at in range(1, 4):
                threading.Thread(target=self.count, args=(self.slot + at, 1 << 30), daemon=True).start()
        if role == "forks":
            threading.Thread(target=self.grow, daemon=True).start()
        for turn in range(1 << 30):
            self.count(self.slot, 5)
            if role in ("growing", "threads"):
                count(self.table, str(turn % 300), metric=MORE)
            if role == "folding" and turn % 5 == 0:
                with contextlib.suppress(FogmetricsError):
                    dead.fold(self.namespace, APPLICATION)
            if role == "forks" and turn % 40 == 0 and 4 + turn // 40 < _SLOTS:
                self.fork(self.slot + 4 + turn // 40)

    def fork(self, slot: int) -> None:
        if os.fork() == 0:
            self.count(slot, self.random.randrange(300))
            os.kill(os.getpid(), self.random.choice([signal.SIGKILL, signal.SIGTERM]))

    def grow(self) -> None:
        for turn in range(1 << 30):
            count(self.table, str(turn % 300), metric=MORE)

    def count(self, slot: int, times: int) -> None:
        for _ in range(times):
            self.ledger.begin(slot)
            count(self.table, str(slot % _GROUPS))
            cell_of(self.table, TAKEN).observe(float(slot % 4))
            self.ledger.end(slot)


def storm(namespace: str, deaths: str, seed: str) -> Done:
    """Kill that many processes while they do all that, and read without pause."""
    adopt_orphans()
    rng = random.Random(int(seed))
    ledger = Ledger(_SLOTS * (int(deaths) + 20))
    living: list[int] = []
    begun = killed = scrapes = stopped = 0
    before: Series = {}
    with reading(namespace) as reader:

        def look(processes: int) -> None:
            nonlocal before, scrapes
            least, found = ledger.done(), identities(namespace)
            if rng.random() < 0.3:
                time.sleep(rng.random() * 0.004)  # between the listing and the reading processes die and are folded
            now, most = scraped(reader, found), ledger.begun()
            for name in ("hits", "taken"):
                # Of a histogram the counts of the buckets, up to that of all; its sum comes a moment later.
                total = sum(words[-2 if name == "taken" else 0] for key, words in now.items() if key[0] == name)
                require(
                    least <= total <= most,
                    f"{name}: {least} were counted before a scrape, {most} were begun at its end, and it says {total}",
                )
            gauges = now.pop(("here", ()), [0.0])[0]
            require(gauges <= processes, f"{processes} processes live, and {gauges:g} have a gauge")
            for key, words in before.items():
                fell = key not in now or any(one < was for one, was in zip(now[key], words, strict=True))
                require(not fell, f"{key} fell from {words} to {now.get(key)}")
            before = now
            scrapes += 1

        try:
            while killed < int(deaths):
                while len(living) < 5:
                    process = Process(namespace, ledger, begun * _SLOTS, rng.getrandbits(32))
                    living.append(fork(process.run))
                    begun += 1
                # The gauge of one that is being born, or is not reaped yet, may be there.
                look(len(living))
                if rng.random() < 0.1:
                    os.kill(rng.choice(living), signal.SIGSTOP)
                    stopped += 1
                if rng.random() < 0.4:
                    pid = living.pop(rng.randrange(len(living)))
                    os.kill(pid, signal.SIGKILL)
                    require(reaped(pid) == -signal.SIGKILL, "a process of the storm ended by itself")
                    killed += 1
        finally:
            kill_all(living)
        look(0)
        reclaimed = reclaim(namespace)
        look(0)
        require(identities(namespace) == [RETIRED], f"of dead processes {identities(namespace)} are left")
    return {
        "processes killed": killed, "of them stopped before": stopped, "scrapes between": scrapes,
        "increments": ledger.done(), "tables folded at the end": reclaimed,
    }  # fmt: skip


def die(namespace: str, application: str, of: str, amount: float) -> None:
    """A process that counts and dies."""
    reaped(fork(lambda: count(ProcessTable(namespace, application), of, amount)))


def beside(namespace: str, step: str) -> Done:
    """Whoever folds at whatever moment of a scrape, for the first time or again: it shows what was counted, once."""
    at, folds, folded = 1, 0, True
    while folded:
        folded = False
        for again in (True, False):
            name = f"app{at}{again}"
            with reading(namespace, name) as reader:
                die(namespace, name, "first", 1.0)
                if again:
                    dead.fold(namespace, name)
                die(namespace, name, "second", 2.0)
                scraped(reader, identities(namespace, name))
                die(namespace, name, "third", 4.0)
                found = identities(namespace, name)
                with at_call(at, _of_a_scrape, lambda _: dead.fold(namespace, name)) as places:  # noqa: B023
                    now = by_label(scraped(reader, found))
                wanted = {"first": 1.0, "second": 2.0, "third": 4.0}
                require(now == wanted, f"somebody folded at call {at} of a scrape: {wanted} was counted: {now}")
            remove_files_of(namespace)
            folded |= bool(places)
            folds += bool(places)
        at += int(step)
    return {"folds within a scrape": folds}


def _of_a_scrape(frame: types.FrameType, event: str) -> bool:
    return event != "c_call" and frame.f_code.co_filename in (merge.__file__, tables.__file__)


# ---- threads, forks, removal ---------------------------------------------------------------------------------


def threads(namespace: str, times: str) -> Done:
    """No increment of threads that count one series is lost, whatever the table does meanwhile."""
    sys.setswitchinterval(1e-5)
    table = ProcessTable(namespace, APPLICATION)
    hits, taken = cell_of(table, HITS, "all"), cell_of(table, TAKEN)

    def work(number: int) -> None:
        for turn in range(int(times)):
            hits.inc(1.0)
            taken.observe(1.5)
            if number == 0 and turn % 20 == 0:
                table.cell(MORE, (str(turn),))
            if number == 0 and turn % 200 == 0:
                table.remove([("more", (str(at),)) for at in range(0, turn, 20)])
            if number == 1 and turn % 50 == 0:
                gone = cell_of(table, MORE, "gone")
                table.remove([gone.key])
                gone.inc(1e6)

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found = shown(namespace)
    counted = 4 * int(times)
    require(found[("hits", ("all",))] == [counted], f"threads counted {counted}: {found[('hits', ('all',))]}")
    words = found[("taken", ())][1:]
    require(words == [0.0, counted, counted, 1.5 * counted], f"threads observed {counted} times 1.5: {words}")
    strange = {key: words for key, words in found.items() if key[0] == "more" and any(words)}
    require(not strange, f"nobody counted in these, but a series that was removed did: {strange}")
    gone = cell_of(table, MORE, "gone")
    table.remove([gone.key])
    again = cell_of(table, MORE, "gone")
    gone.inc(1e6)
    require(again.get() == 0.0, f"in a new series a thread counted that was removed before: {again.get()}")
    table.close()
    return {"increments by threads": counted}


def forks(namespace: str, times: str) -> Done:
    """A fork while other threads are within the table: it does not hang, and counts what it counts, once."""
    sys.setswitchinterval(1e-6)
    table = ProcessTable(namespace, APPLICATION)
    hits = cell_of(table, HITS, "forks")
    stop = threading.Event()

    def grow(number: int) -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            count(table, f"{number}-{turn % 150}", metric=MORE)
            if turn % 40 == 0:  # so that the table is made anew often
                table.remove([("more", (f"{number}-{at % 150}",)) for at in range(turn - 39, turn)])

    def child() -> None:
        hits.inc(1.0)
        count(table, "born")

    workers = [threading.Thread(target=grow, args=(number,)) for number in range(2)]
    for worker in workers:
        worker.start()
    try:
        for turn in range(int(times)):
            status = reaped(fork(child), 20.0)
            require(status == 0, f"fork {turn} ended with {status}")
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    found = by_label(shown(namespace))
    for of in ("forks", "born"):
        require(found[of] == int(times), f"{times} forks counted once each: {found[of]}")
    table.close()
    return {"forks while threads grow": int(times)}


def halted(namespace: str, step: str) -> Done:
    """A fork while another thread stands still in the middle of its growth: the child's table is whole."""
    setattr(process, "_FORK_SECONDS", 0.001)  # noqa: B010 - else it waits for the thread, and meets no middle
    counts = at = 0
    while True:
        at += int(step)
        name = f"app{at}"
        inside, forked = threading.Event(), threading.Event()
        table = ProcessTable(namespace, name)
        for number in range(60):
            table.cell(HITS, (str(number),))
        table.remove([("hits", (str(number),)) for number in range(5)])

        def stand_still(_: str, inside: threading.Event = inside, forked: threading.Event = forked) -> None:
            inside.set()
            forked.wait(0.03)  # the fork may be waiting for us

        def grow(table: ProcessTable = table, stand_still: Callable[[str], None] = stand_still, at: int = at) -> None:
            with at_call(at, _of_a_table, stand_still):
                for number in range(60, 66):
                    table.cell(HITS, (str(number),))

        def child(table: ProcessTable = table, name: str = name) -> None:
            for number in range(5, 60):
                count(table, str(number), float(number))
            now = by_label(shown(namespace, name))
            wrong = {of: value for of, value in now.items() if 5 <= int(of) < 60 and value != float(of)}
            require(len(now) >= 55 and not wrong, f"a fork has {wrong} wrong of {len(now)}")

        thread = threading.Thread(target=grow)
        thread.start()
        while thread.is_alive() and not inside.wait(0.001):
            pass
        if inside.is_set():
            pid = fork(child)
            forked.set()
            status = reaped(pid, 20.0)
            require(status == 0, f"a fork beside a thread that is at call {at} of its growth ended with {status}")
            counts += 1
        thread.join()
        table.close()
        remove_files_of(namespace)
        if not inside.is_set():
            return {"forks beside a growth that stands still": counts}


def _of_a_table(frame: types.FrameType, event: str) -> bool:
    return event != "c_call" and frame.f_code.co_filename in OURS


def removal(namespace: str, rounds: str, seed: str) -> Done:
    """Processes that count a series which two of them remove again and again, and one beside it that nobody does."""
    ledger, phase = Ledger(8), memoryview(mmap.mmap(-1, 64)).cast("q")

    def process(number: int) -> None:
        collector = SharedCollector(APPLICATION, namespace=namespace)
        collector.register_metric("hits", "counter", help="Counted.", label_names=("of",))
        seen = 0
        while True:
            if phase[0] == seen:
                if seen == 0:
                    ledger.begin(number)
                    collector.increment("hits", labels={"of": "removed"})
                    collector.increment("hits", labels={"of": "kept"})
                    ledger.end(number)
                    if number < 2 and ledger._words[2 * number] % 7 == 0:
                        collector.remove("hits", {"of": "removed"})
                else:
                    time.sleep(0.0005)
                continue
            seen = phase[0]
            if seen == 2 and number == 2:
                collector.remove("hits", {"of": "removed"})
            if seen == 3:
                for _ in range(5):
                    collector.increment("hits", labels={"of": "removed"})
            phase[1 + number] = seen

    pids = [fork(partial(process, number)) for number in range(3)]

    def enter(to: int) -> None:
        phase[0] = to
        deadline = time.monotonic() + 30
        while any(phase[1 + number] != to for number in range(3)):
            require(time.monotonic() < deadline, f"processes that remove series don't come to phase {to}")
            time.sleep(0.001)

    scrapes = 0
    try:
        with reading(namespace) as reader:
            while scrapes < int(rounds):
                least = ledger.done()
                now = scraped(reader, identities(namespace))
                most = ledger.begun()
                kept = now.get(("hits", ("kept",)), [0.0])[0]
                require(least <= kept <= most, f"beside removals {least} to {most} were counted: {kept}")
                removed = now.get(("hits", ("removed",)), [0.0])[0]
                require(0 <= removed <= most, f"of {most} counted in a series that is removed, {removed} are shown")
                scrapes += 1
            enter(1)
            enter(2)
            now = scraped(reader, identities(namespace))
            require(("hits", ("removed",)) not in now, f"removed, and shown as {now.get(('hits', ('removed',)))}")
            enter(3)
            now = scraped(reader, identities(namespace))
            found = now.get(("hits", ("removed",)))
            require(found == [15.0], f"3 processes counted 5 each after a removal: {found}")
            for _ in range(2):
                pid = pids.pop(0)
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            dead.fold(namespace, APPLICATION)
            now = scraped(reader, identities(namespace))
            found = now.get(("hits", ("removed",)))
            require(found == [15.0], f"the same, two of them dead and folded: {found}")
    finally:
        kill_all(pids)
    return {"scrapes while series are removed": scrapes, "increments beside": ledger.done()}


if __name__ == "__main__":
    programs: dict[str, Callable[..., Done]] = {
        "beside": beside, "halted": halted, "storm": storm, "threads": threads, "forks": forks,
        "removal": removal,
    }  # fmt: skip
    raise SystemExit(main(programs))
