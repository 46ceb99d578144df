"""I6 and I7: shared memory that runs out: 8 MiB, and the 64 MiB that Docker gives.

Scenario by scenario in :mod:`tests.siege.room.refusals`, in any order in :mod:`tests.siege.room.disorder`; each in a process
that mounts a /dev/shm of its own. No process there may end by a signal that it was not sent: SIGBUS, above all.
"""

from __future__ import annotations

import concurrent.futures
import os
from collections import Counter

import pytest

from tests.siege.harness import Counts, Effort, Mutant, own_namespace
from tests.siege.processes import ask

_REFUSALS, _DISORDER = "tests.siege.room.refusals", "tests.siege.room.disorder"
_NAMES = {
    "refused": "refusals looked at", "granted": "granted beside them", "operations": "operations at random",
    "fillings": "fillings of /dev/shm", "frames appended": "frames appended at random", "frames read": "frames read",
    "half-built segments": "half-built segments", "segments with holes refused": "segments with holes",
    "collector programs": "collector programs", "frames of real collectors": "frames of theirs",
    "series dropped and counted": "series dropped, counted and named", "competitions": "competitions for the last room",
}  # fmt: skip


def check(effort: Effort) -> Counts:
    if os.geteuid():
        pytest.skip("it must be root, to mount a small /dev/shm of its own")
    with own_namespace() as namespace, concurrent.futures.ThreadPoolExecutor(2) as both:
        # Each in a /dev/shm of its own, so they don't meet.
        times, operations = effort.many(1, 15), effort.many(120, 6_000)
        asked = [
            both.submit(ask, _REFUSALS, "small", namespace, times, timeout=60 + 30 * times),
            both.submit(ask, _DISORDER, "at_random", namespace, operations, effort.seed, timeout=60 + operations),
            both.submit(ask, _REFUSALS, "docker", namespace),
        ]
        counts: Counter[str] = Counter()
        for one in asked:
            counts.update({_NAMES[name]: value for name, value in one.result().items() if isinstance(value, int)})
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
            def fault(source, path, size, group=""):
                try:
                    return original(source, path, size, group)
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
        code="self._lock.release()", becomes="None", says="refused where it must not be", scale=0.05,
    ),
    Mutant(
        "room", "a changed definition ends its collector", "collector.frame.definitions:Definitions._redefine",
        code="NoSpace", becomes="KeyError", says="collector_redefined: refused where it must not be", scale=0.05,
    ),
    Mutant(
        "room", "dropped series are not counted", "collector.frame.cardinality:Cardinality.drop",
        patch="def fault(self, metric, why): pass", says="series were counted as dropped", scale=0.05,
    ),
)  # fmt: skip
