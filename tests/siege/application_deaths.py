"""Deaths at every line, handlers at every call: what one process of an application may meet in the middle of its work.

SIGKILL at each line of shm/ that folding, removing, a first store and growth run: one fork for each, a scrape behind it
and another behind the next fold. And at each call that a table's owner makes, or returns from, whatever a signal's
handler or a destructor may do there: count, enter series, remove them, raise. Python calls those nowhere else.
``python -m tests.siege.application_deaths PROGRAM NAMESPACE …``, see :mod:`tests.siege.processes`.
"""

from __future__ import annotations

import contextlib
import os
import types
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from shm.files import DIRECTORY
from shm.table import dead, removal
from shm.table.format import RETIRED
from shm.table.merge import ApplicationReader
from shm.table.process import ProcessTable
from tests.application import cell_of
from tests.rings import remove_files_of
from tests.siege.application_tables import (
    APPLICATION,
    HERE,
    OURS,
    at_call,
    by_label,
    count,
    identities,
    reading,
    reclaim,
    scraped,
    shown,
)
from tests.siege.harness import require, violation_at
from tests.siege.processes import Done, dies_at_line, fork, main, reaped

# Where nothing is changed yet, and many calls are made.
_PURE: Final = {"add", "entries", "_header", "<listcomp>", "<genexpr>"}
_FIRST: Final = 64  # series that fit into a table before it grows


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
        cell_of(table, HERE).set(1.0)

    for of, amount in (("first", 1.0), ("second", 2.0), ("third", 4.0)):
        reaped(fork(partial(die, of, amount)))
        if of != "third":
            kept = {path: path.read_bytes() for path in DIRECTORY.glob(f"fogmetrics.{namespace}.{application}.*-*")}
            dead.fold(namespace, application)
            if of == "second":  # as if its process had died behind the publication
                for path, data in kept.items():
                    path.write_bytes(data)


def _folding(namespace: str, application: str) -> Callable[[], object]:
    return lambda: dead.fold(namespace, application)


def _counted(namespace: str, application: str) -> ProcessTable:
    table = ProcessTable(namespace, application)
    count(table, "mine", 8.0)
    count(table, "all", 8.0)
    return table


def _removing(namespace: str, application: str) -> Callable[[], object]:
    table = _counted(namespace, application)
    # Another did so before, and it was counted again.
    reaped(fork(lambda: removal.remove_elsewhere(table, ("hits", ("mine",)).__eq__)))
    count(table, "mine", 8.0)

    def remove() -> None:
        table.remove([("hits", ("mine",))])
        removal.remove_elsewhere(table, {("hits", ("mine",)), ("hits", ("third",))}.__contains__)

    return remove


def _first_store(namespace: str, application: str) -> Callable[[], object]:
    table = _counted(namespace, application)
    table.forked()  # as in a child; what was there is left as of a process that died
    return lambda: count(table, "mine", 16.0)


def _growing(namespace: str, application: str) -> Callable[[], object]:
    table = _counted(namespace, application)
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
        at, died, goes_on = 1, 0, True
        while goes_on:
            application = f"{operation.name.replace(' ', '_')}{at}"
            _dead(namespace, application)
            with reading(namespace, application) as reader:
                scraped(reader, identities(namespace, application))  # one that has the tables open meanwhile
                goes_on = dies_at_line(at, partial(operation.prepare, namespace, application), operation.name)
                where = f"{operation.name}, killed at line {at}"
                now = _check(reader, namespace, application, operation, where)
                reclaim(namespace, application)
                again = _check(reader, namespace, application, operation, f"{where} and folded")
                require(now == again, f"{where}: {now} before the next fold, {again} behind it")
                require(identities(namespace, application) in ([RETIRED], []), f"{where}: tables are left")
            remove_files_of(namespace)
            died += goes_on
            at += int(step)
        kills[f"kills in {operation.name}"] = died
    return kills


def _check(
    reader: ApplicationReader, namespace: str, application: str, operation: Operation, where: str
) -> dict[str, float]:
    series = scraped(reader, identities(namespace, application))
    require((HERE.name, ()) not in series, f"{where}: the gauge of a process that is dead is shown")
    now = by_label(series)
    for of, values in operation.may.items():
        require(now.get(of) in values, f"{where}: {of} is {now.get(of)}, and may be {values}")
    return now


# ---- handlers ------------------------------------------------------------------------------------------------


class Raised(Exception):
    """By a signal's handler."""


def handlers(namespace: str, step: str) -> Done:
    """At every ``step``-th call and return within a table's work: a handler that counts, removes, raises."""
    counts: dict[str, int | str] = {}
    for what in ("counts", "removes", "raises"):
        at, tried = 1, 0
        goes_on = True
        while goes_on:
            with violation_at(f"a handler that {what} at call {at}", Exception):
                goes_on = _interrupted(namespace, what, at)
            at += int(step)
            tried += goes_on
        counts[f"handlers that {what[:-1]}"] = tried
    return counts


def _interrupted(namespace: str, what: str, at: int) -> bool:
    """One handler at that place; False when there are not so many places."""
    application = f"{what}{at}"
    table = ProcessTable(namespace, application)
    counted: dict[str, int] = {}

    def one(of: str) -> None:
        count(table, of)
        counted[of] = counted.get(of, 0) + 1

    def handler(_: str) -> None:
        if what == "raises":
            raise Raised
        for of in ("of the handler", "s5", "s59", "new"):
            one(of)
        if what == "removes":
            table.remove([("hits", ("s7",))])

    for number in range(60):
        one(f"s{number}")
    allowed = 0
    with at_call(at, _changes, handler) as places:
        try:
            table.remove([("hits", ("s3",)), ("hits", ("s4",))])
            for number in range(60, _FIRST + 4):  # it grows
                one(f"s{number}")
            one("s3")
        except Raised:
            allowed = 1  # of the count that it came into, the check does not know whether it was done
    if not places:
        table.close()
        reclaim(namespace, application)
        return False
    for of in ("s3", "s4", *(["s7"] if what == "removes" else [])):
        counted.pop(of, None)

    def check() -> None:
        nonlocal allowed
        found = by_label(shown(namespace, application))
        for of, times in counted.items():
            off = found.get(of, 0.0) - times
            if off and 0 < off <= allowed:
                allowed -= 1
                counted[of] += 1
            else:
                require(not off, f"{places[0]}: {of} was counted {times} times: {found.get(of)}")

    for of in ("the end", "s1"):
        one(of)
    check()
    for of in (f"t{number}" for number in range(70)):  # it grows again
        one(of)
    table.remove([("hits", ("s20",))])
    counted.pop("s20", None)
    check()
    table.close()
    remove_files_of(namespace)
    return True


def _changes(frame: types.FrameType, event: str) -> bool:
    """Whether that is a call or return within a table's work in which something may be changed already."""
    both = frame, frame.f_back
    names = [one.f_code.co_name for one in both if one is not None]
    files = [one.f_code.co_filename for one in both if one is not None]
    return event != "c_call" and not OURS.isdisjoint(files) and _PURE.isdisjoint(names)


def descriptors(namespace: str, times: str) -> Done:
    """Code in the same process that reads the application's tables frees no lock, and keeps no descriptor."""
    table = ProcessTable(namespace, APPLICATION)
    cell_of(table, HERE).set(1.0)
    shown(namespace)
    open_before = len(os.listdir("/proc/self/fd"))
    for number in range(int(times)):
        shown(namespace)
        count(table, str(number))
        dead.fold(namespace, APPLICATION)
    status = reaped(fork(lambda: require(shown(namespace).get((HERE.name, ())) == [1.0], "its gauge is not shown")))
    require(status == 0, f"others no longer see that a process lives which reads its own tables ({status})")
    more = len(os.listdir("/proc/self/fd")) - open_before
    require(more <= 2, f"to read its own tables {times} times cost a process {more} descriptors")
    with contextlib.suppress(OSError):
        os.closerange(3, 256)  # as programs do that become daemons
    reaped(fork(lambda: dead.fold(namespace, APPLICATION)))
    count(table, "behind")
    require(by_label(shown(namespace)).get("behind") == 1.0, "counted behind closerange(), and not shown")
    return {"reads of one's own tables": int(times)}


if __name__ == "__main__":
    raise SystemExit(main({"deaths": deaths, "handlers": handlers, "descriptors": descriptors}))
