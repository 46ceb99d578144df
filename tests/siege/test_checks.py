"""Every check of docs/reliability.md holds, and sees each of its mutants."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.programs import unmeasured
from tests.siege.__main__ import CHECKS, module_of
from tests.siege.harness import ROOT, Mutant, refuted

MUTANTS: list[Mutant] = [mutant for name in CHECKS for mutant in module_of(name).MUTANTS]


@pytest.mark.promise
@pytest.mark.parametrize("name", CHECKS)
def test_the_promise_holds(name: str) -> None:
    _holds(name)


def test_the_model_of_the_protocol_holds() -> None:
    """Among the quick tests too, because it proves the protocol that everything in shared memory rests on."""
    _holds("model")


def _holds(name: str) -> None:
    # In a process of its own: checks fork, and a SIGBUS must not end the other tests. Coverage is not measured: a check
    # repeats thousands of times what other tests cover.
    run = subprocess.run(
        [sys.executable, "-m", "tests.siege", name],
        cwd=ROOT, env=unmeasured(), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    if ": not run: " in run.stderr:
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.startswith(f"{name}: ")


@pytest.mark.mutant
@pytest.mark.timeout(330)  # each draw has 100 seconds
@pytest.mark.filterwarnings("always:.* was not seen with seed")
@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_check_sees_the_mutant(mutant: Mutant, tmp_path: Path) -> None:
    refuted(mutant, tmp_path)


def test_every_check_has_a_mutant_that_it_sees() -> None:
    assert {mutant.check for mutant in MUTANTS} == set(CHECKS)


@pytest.mark.parametrize("mutant", MUTANTS, ids=str)
def test_the_program_has_what_the_mutant_changes(mutant: Mutant) -> None:
    compile(mutant.source(ROOT), mutant.symbol, "exec")
