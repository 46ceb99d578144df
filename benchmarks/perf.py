"""The share of a process's CPU that the kernel takes in one system call, measured by perf.

perf samples by the processor's clock, so a sleeping thread has no samples. This also works in virtual machines, which
have no hardware counters. perf sees the kernel, but no Python frames.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Final

from benchmarks.harness import Missing, program

_RATE: Final = 4999  # a second
_HOW: Final = "apt-get install linux-perf, and let it sample: as root, or with CAP_PERFMON"


def share_in(call: str, pid: int, seconds: float, busy: Callable[[], object]) -> float:
    """The kernel's share of one system call in the CPU of the process while ``busy`` is called repeatedly.

    ``call``: part of the kernel's name of the call, such as ``epoll_pwait``. Raises Missing.
    """
    perf = program("perf", _HOW)
    with tempfile.TemporaryDirectory(prefix="fogmetrics-") as directory:
        data = Path(directory) / "perf.data"
        command = [perf, "record", "-e", "cpu-clock", "-F", str(_RATE), "-g", "-o", str(data), "-p", str(pid)]
        recording = subprocess.Popen(
            [*command, "--", "sleep", f"{seconds:g}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            while recording.poll() is None:
                busy()
        finally:
            recording.kill()
            recording.wait()
        listed = subprocess.run([perf, "script", "-i", str(data), "-F", "ip,sym"], capture_output=True, text=True)
        samples = samples_of(listed.stdout)
        if recording.returncode or listed.returncode or not any("sys_" in one for one in samples):
            raise Missing("perf that sees the kernel", _HOW)
        return sum(call in one for one in samples) / len(samples)


def samples_of(listed: str) -> list[str]:
    """Parse the output of ``perf script``: one line per frame, and an empty line after each sample."""
    return [one for one in listed.split("\n\n") if one.strip()]
