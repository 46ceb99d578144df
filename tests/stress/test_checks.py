"""Every check of docs/reliability.md holds, and sees each of its mutants."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.stress.__main__ import CHECKS
from tests.stress.harness import Effort, Mutant, refuted

MODULES = {name: importlib.import_module(f"tests.stress.{name}") for name in CHECKS}
MUTANTS: list[Mutant] = [mutant for module in MODULES.values() for mutant in module.MUTANTS]


@pytest.mark.parametrize("name", CHECKS)
def test_the_promise_holds(name: str) -> None:
    counts = MODULES[name].check(Effort())
    assert counts, f"the check {name!r} counted nothing"
    assert all(value != 0 for value in counts.values()), f"the check {name!r} did nothing of something: {counts}"


@pytest.mark.mutant
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_check_sees_the_mutant(mutant: Mutant, tmp_path: Path) -> None:
    refuted(mutant, tmp_path)


def test_every_check_has_a_mutant_that_it_sees() -> None:
    assert {mutant.check for mutant in MUTANTS} == set(CHECKS)
