"""Processes whose supervisord can be killed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import IO

from tests.programs import stop
from tests.rings import ROOT

_SUPERVISORD = """
import os, subprocess, sys, time
environ = {**os.environ, "SUPERVISOR_ENABLED": "1"}
subprocess.Popen([sys.executable, "-c", sys.argv[1]], env=environ, process_group=0)
time.sleep(60)
"""


@contextlib.contextmanager
def watched(program: str) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    """Python code, run by a process that stands in for supervisord: that process, and what the code prints.

    The code has to end by itself once its supervisord is gone.
    """
    command = [sys.executable, "-c", _SUPERVISORD, program]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout
    finally:
        stop(process)  # type: ignore[arg-type]  # of text or of bytes
        assert process.stdout.read() == "", "it goes on, or says more"
        process.stdout.close()
