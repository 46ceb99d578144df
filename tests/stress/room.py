"""I6 and I7: shared memory that runs out. The programs run in :mod:`tests.stress.refusals`."""

from __future__ import annotations

import os

import pytest

from tests.stress.apart import ask
from tests.stress.harness import Counts, Effort, Mutant, own_namespace

_REFUSALS = "tests.stress.refusals"


def check(effort: Effort) -> Counts:
    if os.geteuid():
        pytest.skip("it must be root, to mount a small /dev/shm of its own")
    with own_namespace() as namespace:
        done = ask(_REFUSALS, "small", namespace, effort.many(1, 20), timeout=600)
        print(done)
        print(ask(_REFUSALS, "docker", namespace, timeout=600))
    return done

MUTANTS: tuple[Mutant, ...] = ()
