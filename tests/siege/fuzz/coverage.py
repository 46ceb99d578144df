"""Bad bytes, guided by the branches that they reach.

Atheris (libFuzzer for Python) keeps the inputs that reach new branches of shm and exporter, and changes those further.
It is the extra ``fuzz`` of pyproject.toml. :mod:`tests.siege.fuzz.attempt` defines what an input means.
"""

from __future__ import annotations

import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from tests.programs import unmeasured
from tests.siege.harness import ROOT, Violation, own_namespace

_HUNG_SECONDS: Final = 20
_MEMORY_MB: Final = 512
# Runs of one process: instrumented, it grows by 8 KiB a run; without instrumentation it does not.
_BATCH: Final = 20_000
_MOST_BYTES: Final = 4096
_COVERED = re.compile(r"^#\d+\t(?:INITED|DONE)\s+cov: (\d+) ft: (\d+)", re.MULTILINE)
_RUNS = re.compile(r"^stat::number_of_executed_units: (\d+)", re.MULTILINE)


def siege(runs: int, seed: int) -> dict[str, int | str]:
    """Counts of that many runs, in processes that hand on their inputs. Raises Violation with an input that fails."""
    ran = 0
    covered: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as directory:
        while ran < runs:
            with own_namespace() as namespace:
                options = [namespace, directory, str(min(runs - ran, _BATCH)), str(seed + ran)]
                run = subprocess.run(
                    [sys.executable, "-m", "tests.siege.fuzz.coverage", *options],
                    cwd=ROOT, env=unmeasured(), capture_output=True, text=True, timeout=300 + runs / 50,
                )  # fmt: skip
            for path in Path(directory).glob("find-*"):
                raise Violation(f"I9: the input {path.read_bytes()!r}: {run.stderr[-2000:]}")
            done = _RUNS.search(run.stderr)
            covered += _COVERED.findall(run.stderr)
            assert run.returncode == 0 and done, run.stderr  # noqa: PT018 -- one thing: it ran
            ran += int(done[1])
    return {
        "coverage-guided runs": ran,
        "branches reached by the first inputs": int(covered[0][0]),
        "branches reached at the end": int(covered[-1][0]),
    }


def _first_inputs(directory: Path) -> Path:
    """Some edits and catalog entries, so that the first inputs are worth changing."""
    from tests.siege.fuzz.catalogs import bodies

    corpus = directory / "corpus"
    if corpus.exists():
        return corpus  # with what the process before added
    corpus.mkdir()
    inputs = [bytes((0, 32, 0, 8, 255)), bytes((4, 24, 0, 1, 0)), bytes((12, 0, 16, 4, 1, 2, 3, 4))]
    for _, behind in list(bodies([0, 1, 2, 3], 8))[::7]:
        inputs += [bytes((1, kind - 1)) + body for kind, body in behind if kind < 256]
    for number, one in enumerate(inputs):
        (corpus / str(number)).write_bytes(one)
    return corpus


def _child(namespace: str, directory: Path, runs: int, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["shm", "exporter"]):
        from tests.siege.fuzz.attempt import attempt
        from tests.siege.fuzz.victim import Victim

    logging.getLogger().addHandler(logging.NullHandler())
    victim = Victim(namespace)
    atheris.Setup(
        [
            sys.argv[0], f"-runs={runs}", f"-seed={seed + 1}", f"-max_len={_MOST_BYTES}", f"-timeout={_HUNG_SECONDS}",
            f"-rss_limit_mb={_MEMORY_MB}", f"-artifact_prefix={directory}/find-", "-print_final_stats=1",
            str(_first_inputs(directory)),
        ],
        lambda data: attempt(victim, data),
    )  # fmt: skip
    atheris.Fuzz()  # ends the process


if __name__ == "__main__":
    _child(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
