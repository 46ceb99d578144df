"""Attack I6 and I7 with shared memory that runs out: 8 MiB, and the 64 MiB that Docker gives.

The scenarios of :mod:`tests.siege.room.refusals` run in processes that mount a /dev/shm of their own, which another
file fills to the last page. Every refusal is compared with what I7 promises, and no process may end by a signal that
the check did not send: above all not by SIGBUS.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from tests.siege.harness import Counts, Effort, Mutant, own_namespace
from tests.siege.processes import asking

_REFUSALS = "tests.siege.room.refusals"


def check(effort: Effort) -> Counts:
    if os.geteuid():
        pytest.skip("it must be root, to mount a small /dev/shm of its own")
    times = effort.many(1, 15)
    counts: Counter[str] = Counter()
    # Each in a /dev/shm of its own, so they run side by side.
    with (
        own_namespace() as namespace,
        asking(_REFUSALS, "small", namespace, times, effort.seed, timeout=60 + 60 * times) as small,
        asking(_REFUSALS, "docker", namespace) as docker,
    ):
        for answer in (small, docker):
            counts.update({name: int(value) for name, value in answer().items()})
    return dict(counts)


MUTANTS = (
    Mutant(
        "room", "memory that is not reserved", "shm.create:create",
        code="os.posix_fallocate", becomes="lambda fd, start, size: os.ftruncate(fd, size)",
        says="began with what was not reserved", scale=0.05,
    ),
    Mutant(
        "room", "a refused segment is left", "shm.create:create",
        patch="""
            def fault(source, path, *more):
                try:
                    return original(source, path, *more)
                except NoSpace:
                    path.touch()
                    raise
        """,
        says="was refused and left", scale=0.05,
    ),
    Mutant(
        "room", "segments with holes are taken", "shm.files:open_segment",
        code="status.st_blocks * 512 < header.segment_bytes", becomes="False",
        says="I7: a reader took a segment with holes", scale=0.05,
    ),
    Mutant(
        "room", "a refused start keeps its lock", "shm.ring.writer:RingWriter.__init__",
        code="self._lock.release()", becomes="None", says="I7: start: WriterBusy(", scale=0.05,
    ),
    Mutant(
        "room", "a changed definition ends its collector", "collector.frame.definitions:Definitions._redefine",
        code="NoSpace", becomes="KeyError", says="I7: redefined: NoSpace(", scale=0.05,
    ),
    Mutant(
        "room", "another help costs a metric its history", "shm.ring.writer:RingWriter.redefine",
        code="new.shape != known[name].shape", becomes="True", says="other samples than were appended", scale=0.05,
    ),
    Mutant(
        "room", "dropped series are not counted", "collector.frame.cardinality:Cardinality.drop",
        patch="def fault(self, metric, why): pass", says="series were counted as dropped", scale=0.05,
    ),
)  # fmt: skip
