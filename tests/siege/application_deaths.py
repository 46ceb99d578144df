"""Deaths at every line, handlers at every call: what one process of an application may meet in the middle of its work.

SIGKILL at each line of shm/ that folding, removing, a first store and growth run: one fork for each, a scrape behind it
and another behind the next fold. And at each call that a table's owner makes, or returns from, whatever a signal's
handler or a destructor may do there: count, enter series, remove them, raise. Python calls those nowhere else.
``python -m tests.siege.application_deaths PROGRAM NAMESPACE …``, see :mod:`tests.siege.processes`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import shm
from shm.files import DIRECTORY
from shm.metric import Metric
from shm.table import dead, removal
from shm.table.cells import CounterCell, GaugeCell
from shm.table.format import RETIRED
from shm.table.process import ProcessTable
from tests.siege.application_storm import HERE, HITS, OURS, ended, fork, identities, reading, reclaim, scraped
from tests.siege.harness import Violation, require
from tests.siege.processes import Done, main

_SHM: Final = str(Path(shm.__file__).parent)
_DONE: Final = 42  # exit status of an operation that ended before the line at which it was to die
# Where nothing is changed yet, and many calls are made.
_PURE: Final = {"add", "entries", "_header", "<listcomp>", "<genexpr>"}
_FIRST: Final = 64  # series that fit into a table before it grows


def count(table: ProcessTable, of: str, amount: float = 1.0) -> None:
    cell = table.cell(HITS, (of,))
    assert isinstance(cell, CounterCell)
    cell.inc(amount)


# ---- deaths --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    """``prepare`` runs in the process that is killed, and returns what it is killed in. ``may``: series → values that a
    scrape may show of them afterwards, None for absent; they stay what they are then."""

    name: str
    prepare: Callable[[str, str], Callable[[], object]]
    may: dict[str, tuple[float | None, ...]]


def _dead(namespace: str, application: str) -> None:
    """Three processes that died: the first folded, the second folded and still there, the third not yet."""

    def die(of: str, amount: float) -> None:
        table = ProcessTable(namespace, application)
        count(table, of, amount)
        count(table, "all", amount)
        here = table.cell(HERE, ())
        assert isinstance(here, GaugeCell)
        here.set(1.0)

    for of, amount in (("first", 1.0), ("second", 2.0), ("third", 4.0)):
        ended(fork(lambda of=of, amount=amount: die(of, amount)))  # type: ignore[misc]
        if of != "third":
            kept = {path: path.read_bytes() for path in DIRECTORY.glob(f"fogmetrics.{namespace}.{application}.*-*")}
            dead.fold(namespace, application)
            if of == "second":  # as if its process had died behind the publication
                for path, data in kept.items():
                    path.write_bytes(data)


def _folding(namespace: str, application: str) -> Callable[[], object]:
    return lambda: dead.fold(namespace, application)


def _removing(namespace: str, application: str) -> Callable[[], object]:
    table = ProcessTable(namespace, application)
    count(table, "mine", 8.0)
    count(table, "all", 8.0)
    # Another did so before, and it was counted again.
    ended(fork(lambda: removal.remove_elsewhere(table, ("hits", ("mine",)).__eq__)))
    count(table, "mine", 8.0)

    def remove() -> None:
        table.remove([("hits", ("mine",))])
        removal.remove_elsewhere(table, {("hits", ("mine",)), ("hits", ("third",))}.__contains__)

    return remove


def _first_store(namespace: str, application: str) -> Callable[[], object]:
    table = ProcessTable(namespace, application)
    count(table, "mine", 8.0)
    count(table, "all", 8.0)
    table.forked()  # as in a child; what was there is left as of a process that died
    return lambda: count(table, "mine", 16.0)


def _growing(namespace: str, application: str) -> Callable[[], object]:
    table = ProcessTable(namespace, application)
    count(table, "mine", 8.0)
    count(table, "all", 8.0)
    for number in range(_FIRST - 2):
        count(table, f"more{number}")
    table.remove([("hits", (f"more{number}",)) for number in range(20)])
    return lambda: count(table, "new", 16.0)


_DEAD: Final[dict[str, tuple[float | None, ...]]] = {"first": (1.0,), "second": (2.0,)}
_LIVED: Final[dict[str, tuple[float | None, ...]]] = {**_DEAD, "all": (15.0,), "third": (4.0,)}
OPERATIONS: Final = (
    Operation("fold", _folding, {**_DEAD, "third": (4.0,), "all": (7.0,)}),
    Operation("remove", _removing, {**_LIVED, "third": (4.0, None), "mine": (8.0, None)}),
    Operation("first store", _first_store, {**_LIVED, "mine": (8.0, 24.0)}),
    Operation("growth", _growing, {**_LIVED, "mine": (8.0,), "more40": (1.0,), "new": (0.0, 16.0, None)}),
)


def deaths(namespace: str, step: str) -> Done:
    """Kill each operation at every ``step``-th line that it runs."""
    kills: dict[str, int | str] = {}
    for operation in OPERATIONS:
        at, died = 1, 0
        while True:
            application = f"{operation.name.replace(' ', '_')}{at}"
            _dead(namespace, application)
            with reading(namespace, application) as reader:
                scraped(reader, identities(namespace, application))  # one that has the tables open meanwhile
                status = ended(fork(lambda at=at, name=application, it=operation: _die(namespace, name, it, at)))  # type: ignore[misc]
                require(status in (-signal.SIGKILL, _DONE), f"{operation.name} ended with {status} at line {at}")
                where = f"{operation.name}, killed at line {at}"
                shown = _check(reader, namespace, application, operation, where)
                reclaim(namespace, application)
                again = _check(reader, namespace, application, operation, f"{where} and folded")
                require(shown == again, f"{where}: {shown} before the next fold, {again} behind it")
                require(identities(namespace, application) in ([RETIRED], []), f"{where}: tables are left")
            for path in DIRECTORY.glob(f"fogmetrics.{namespace}.{application}.*"):
                path.unlink()
            if status == _DONE:
                break
            died += 1
            at += int(step)
        kills[f"kills in {operation.name}"] = died
    return kills


def _die(namespace: str, application: str, operation: Operation, at: int) -> None:
    act = operation.prepare(namespace, application)
    lines = 0

    def local(frame: types.FrameType, event: str, argument: Any) -> Any:
        nonlocal lines
        if event == "line":
            lines += 1
            if lines == at:
                os.kill(os.getpid(), signal.SIGKILL)
        return local

    def trace(frame: types.FrameType, event: str, argument: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(_SHM) else None

    sys.settrace(trace)
    act()
    sys.settrace(None)
    os._exit(_DONE)


def _check(reader: Any, namespace: str, application: str, operation: Operation, where: str) -> dict[str, float]:
    now = scraped(reader, identities(namespace, application))
    require(not [key for key in now if key[0] == HERE.name], f"{where}: the gauge of a process that is dead is shown")
    shown = {key[1][0]: words[0] for key, words in now.items()}
    for of, values in operation.may.items():
        require(shown.get(of) in values, f"{where}: {of} is {shown.get(of)}, and may be {values}")
    return shown


# ---- handlers ------------------------------------------------------------------------------------------------


class Raised(Exception):
    """By a signal's handler."""


def handlers(namespace: str, step: str) -> Done:
    """At every ``step``-th call and return within a table's work: a handler that counts, removes, raises."""
    counts: dict[str, int | str] = {}
    for what in ("counts", "removes", "raises"):
        at, tried = 1, 0
        while _goes_on(namespace, what, at):
            at += int(step)
            tried += 1
        counts[f"handlers that {what[:-1]}"] = tried
    return counts


def _goes_on(namespace: str, what: str, at: int) -> bool:
    try:
        return _interrupted(namespace, what, at)
    except Violation:
        raise
    except Exception as error:
        raise Violation(f"a handler that {what} at call {at} made {type(error).__name__} of it: {error}") from error


def _interrupted(namespace: str, what: str, at: int) -> bool:
    """One handler at that place; False when there are not so many places."""
    application = f"{what}{at}"
    table = ProcessTable(namespace, application)
    counted: dict[str, int] = {}
    place = "nowhere"
    seen = 0

    def one(of: str) -> None:
        count(table, of)
        counted[of] = counted.get(of, 0) + 1

    def handler() -> None:
        if what == "raises":
            raise Raised
        for of in ("of the handler", "s5", "s59", "new"):
            one(of)
        if what == "removes":
            table.remove([("hits", ("s7",))])

    def profile(frame: types.FrameType, event: str, argument: object) -> None:
        nonlocal seen, place
        ours, back = frame.f_code.co_filename in OURS, frame.f_back
        if frame.f_code.co_name in _PURE or (back is not None and back.f_code.co_name in _PURE):
            return
        if event == "c_call" or not (ours or (back is not None and back.f_code.co_filename in OURS)):
            return
        seen += 1
        if seen == at:
            place = f"{event} of {frame.f_code.co_name}, line {frame.f_lineno}"
            sys.setprofile(None)
            handler()

    for number in range(60):
        one(f"s{number}")
    allowed = 0
    try:
        sys.setprofile(profile)
        table.remove([("hits", ("s3",)), ("hits", ("s4",))])
        for number in range(60, _FIRST + 4):  # it grows
            one(f"s{number}")
        one("s3")
    except Raised:
        allowed = 1  # of the count that it came into, the check does not know whether it was done
    finally:
        sys.setprofile(None)
    if place == "nowhere":
        table.close()
        reclaim(namespace, application)
        return False
    for of in ("s3", "s4", *(["s7"] if what == "removes" else [])):
        counted.pop(of, None)

    def check() -> None:
        nonlocal allowed
        with reading(namespace, application) as reader:
            found = {key[1][0]: words[0] for key, words in scraped(reader, identities(namespace, application)).items()}
        for of, times in counted.items():
            off = found.get(of, 0.0) - times
            if off and 0 < off <= allowed:
                allowed -= 1
                counted[of] += 1
            else:
                require(not off, f"a handler that {what} at {place}: {of} was counted {times} times: {found.get(of)}")

    for of in ("the end", "s1"):
        one(of)
    check()
    for of in (f"t{number}" for number in range(70)):  # it grows again
        one(of)
    table.remove([("hits", ("s20",))])
    counted.pop("s20", None)
    check()
    table.close()
    for path in DIRECTORY.glob(f"fogmetrics.{namespace}.{application}.*"):
        path.unlink()
    return True


def descriptors(namespace: str, times: str) -> Done:
    """Code in the same process that reads the application's tables frees no lock, and keeps no descriptor."""
    table = ProcessTable(namespace, "app")
    level = table.cell(Metric("level", "gauge", "A gauge, which only processes that live have."), ())
    assert isinstance(level, GaugeCell)
    level.set(1.0)
    with reading(namespace, "app") as reader:
        scraped(reader, identities(namespace, "app"))
    open_before = len(os.listdir("/proc/self/fd"))
    for number in range(int(times)):
        with reading(namespace, "app") as reader:
            scraped(reader, identities(namespace, "app"))
        count(table, str(number))
        dead.fold(namespace, "app")

    def look() -> None:
        with reading(namespace, "app") as reader:
            now = scraped(reader, identities(namespace, "app"))
        if now.get(("level", ())) != [1.0]:
            os._exit(5)

    status = ended(fork(look))
    require(status == 0, f"others no longer see that a process lives which reads its own tables ({status})")
    more = len(os.listdir("/proc/self/fd")) - open_before
    require(more <= 2, f"to read its own tables {times} times cost a process {more} descriptors")
    with contextlib.suppress(OSError):
        os.closerange(3, 256)  # as programs do that become daemons
    ended(fork(lambda: dead.fold(namespace, "app")))
    count(table, "behind")
    with reading(namespace, "app") as reader:
        now = scraped(reader, identities(namespace, "app"))
    require(now.get(("hits", ("behind",))) == [1.0], "counted behind closerange(), and not shown")
    return {"reads of one's own tables": int(times)}


if __name__ == "__main__":
    raise SystemExit(main({"deaths": deaths, "handlers": handlers, "descriptors": descriptors}))
