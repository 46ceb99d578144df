"""Run a real collector, for the checks that stop it, set its clock, or fill /dev/shm under it."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.programs import Program, running
from tests.rings import ROOT, newest_sequence

INTERVAL_SECONDS: Final = 0.1
WAIT_SECONDS: Final = 30.0


@contextlib.contextmanager
def collector(
    namespace: str, source: str, capacity: int = 5760, environ: Mapping[str, str] | None = None
) -> Iterator[Program]:
    """``python -m collector SOURCE`` with a configuration and an environment of its own."""
    with tempfile.TemporaryDirectory() as name:
        config = Path(name) / "fogmetrics.toml"
        shm = f'[shm]\nnamespace = "{namespace}"\ncapacity = {capacity}\n'
        config.write_text(f"{shm}[collector]\ninterval_seconds = {INTERVAL_SECONDS}\n")
        command = [sys.executable, "-m", "collector", source, "--config", str(config)]
        with running(command, Path(name) / "log", cwd=ROOT, env=environ) as program:
            yield program


def wait_for_frame(program: Program, namespace: str, source: str, sequence: int) -> int:
    """The newest sequence once it is ``sequence`` or beyond. AssertionError with the log when the program ends."""
    program.wait_until(
        lambda: newest_sequence(namespace, source) >= sequence, WAIT_SECONDS, f"frame {sequence} of {source}"
    )
    return newest_sequence(namespace, source)
