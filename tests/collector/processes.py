"""Collectors in processes of their own."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.programs import Program, running
from tests.rings import ROOT, newest_sequence


@contextlib.contextmanager
def collecting(config: Path, namespace: str, source: str, frames: int) -> Iterator[Program]:
    """A collector whose ring has that many frames."""
    command = [sys.executable, "-m", "collector", source, "--config", str(config)]
    with running(command, config.with_suffix(".log"), cwd=ROOT) as program:
        program.wait_until(lambda: newest_sequence(namespace, source) >= frames, 30, f"frame {frames} of {source}")
        yield program


def run_until(config: Path, namespace: str, source: str, frames: int, stop: int = signal.SIGTERM) -> str:
    """The log of a collector that is stopped after so many frames, and ends in good order."""
    with collecting(config, namespace, source, frames) as program:
        program.process.send_signal(stop)
        assert program.process.wait(20) == 0, program.log()
    return program.log()
