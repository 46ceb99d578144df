"""Applications: tables of many processes under deaths, forks, signals, removals, bad bytes and full memory.

What processes do to each other: :mod:`tests.siege.application_storm`. What may happen in the middle of one's work:
:mod:`tests.siege.application_deaths`. Bytes: :mod:`tests.siege.application_bytes`. Room:
:mod:`tests.siege.application_room`.
"""

from __future__ import annotations

import os

import pytest

from tests.siege.harness import Counts, Effort, Mutant, own_namespace
from tests.siege.processes import ask

_STORM, _DEATHS = "tests.siege.application_storm", "tests.siege.application_deaths"
_BYTES, _ROOM = "tests.siege.application_bytes", "tests.siege.application_room"


def _step(effort: Effort, short: int) -> int:
    """From one line, or call, at which something happens to the next."""
    return 1 if effort.long else max(round(short / effort.scale), 1)


def _parts(effort: Effort) -> dict[str, tuple[str, tuple[object, ...]]]:
    """By name, which is that of its program: the program's module and arguments."""
    return {
        "beside": (_STORM, (_step(effort, 6),)),
        "descriptors": (_DEATHS, (effort.many(20, 400),)),
        "handlers": (_DEATHS, (_step(effort, 12),)),
        "halted": (_STORM, (_step(effort, 25),)),
        "threads": (_STORM, (effort.many(6_000, 300_000),)),
        "forks": (_STORM, (effort.many(60, 2_000),)),
        "removal": (_STORM, (effort.many(500, 20_000), effort.seed)),
        "harmed": (_BYTES, (effort.many(25, 3_000), effort.seed)),
        "deaths": (_DEATHS, (_step(effort, 100),)),
        "torn": (_BYTES, (effort.seconds(1.0, 60.0),)),
        "storm": (_STORM, (effort.many(70, 4_000), effort.seed)),
        "full": (_ROOM, (effort.many(25, 1_000), effort.seed)),
    }


PARTS = tuple(_parts(Effort()))


def check(effort: Effort) -> Counts:
    parts = _parts(effort)
    if os.geteuid() != 0:  # who may not mount a /dev/shm of its own
        del parts["full"]
    if effort.part:
        if effort.part not in parts:
            pytest.skip("it must be root, to mount a small /dev/shm of its own")
        parts = {effort.part: parts[effort.part]}
    counts: dict[str, int | str] = {}
    for part, (module, arguments) in parts.items():
        with own_namespace() as namespace:
            counts |= ask(module, part, namespace, *arguments, timeout=1800.0 if effort.long else 80.0)
    return counts


MUTANTS = (
    Mutant(
        "applications", "the retired are read only where they were listed", "shm.table.merge:ApplicationReader.refresh",
        code="{*identities, RETIRED}", becomes="identities",
        says="somebody folded at call", scale=0.5, part="beside",
    ),
    Mutant(
        "applications", "a fold beside a scrape is not seen", "shm.table.merge:ApplicationReader.refresh",
        code="self._retired() == before and not self._replaced", becomes="True",
        says="somebody folded at call", scale=0.5, part="beside",
    ),
    Mutant(
        "applications", "gauges of the dead stay", "shm.table.merge:_Merged.add",
        code="not alive", becomes="False",
        says="the gauge of a process that is dead", scale=0.5, part="deaths",
    ),
    Mutant(
        "applications", "the retired do not name whom they have", "shm.table.dead:fold",
        code="total.folded = [*sorted(before & left), *(table.who for table in dead)]", becomes="total.folded = []",
        says="second is 4.0, and may be", scale=0.5, part="deaths",
    ),
    Mutant(
        "applications", "the dead are unlinked before their counts are published", "shm.table.dead:fold",
        code="total.write(namespace, application, group)",
        becomes="for table in dead:\n    table.path.unlink()\ntotal.write(namespace, application, group)",
        says="and may be", scale=0.8, part="deaths",
    ),
    Mutant(
        "applications", "what is stored while a table grows goes to the old file alone",
        "shm.table.process:ProcessTable._detach",
        patch="def fault(self): pass", says="a handler that counts", part="handlers",
    ),
    Mutant(
        "applications", "what interrupts a growth is done at once", "shm.table.process:ProcessTable._do",
        code="if self._busy:\n    return", becomes="pass", says="a handler that counts", scale=2.0, part="handlers",
    ),
    Mutant(
        "applications", "a growth that was interrupted is taken for published",
        "shm.table.process:ProcessTable._current",
        code="new.published()", becomes="True", says="a handler that raises", scale=2.0, part="handlers",
    ),
    Mutant(
        "applications", "a reader frees the lock of its own process", "shm.table.descriptors:close_table",
        patch="fault = os.close", says="no longer see that a process lives", scale=0.1, part="descriptors",
    ),
    Mutant(
        "applications", "the cell of a removed series keeps its words", "shm.table.process:ProcessTable._remove",
        code="cell.words = DETACHED", becomes="pass", says="that was removed", scale=0.5, part="threads",
    ),
    Mutant(
        "applications", "a fork does not end what another thread had begun", "shm.table.process:ProcessTable.forked",
        code="self._busy = False", becomes="pass",
        says="a fork beside a thread", scale=0.8, part="halted",
    ),
    Mutant(
        "applications", "what a process removes after another did is counted from there",
        "shm.table.dead:since_removal",
        code="ABSENT in (own[-8:], then[-8:])", becomes="False", says="nan", part="deaths",
    ),
    Mutant(
        "applications", "memory that is not reserved", "shm.create:create",
        code="os.posix_fallocate", becomes="lambda fd, start, size: os.ftruncate(fd, size)",
        says="full", scale=0.3, part="full",
    ),
)  # fmt: skip
