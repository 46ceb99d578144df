"""What share of a process's CPU the kernel takes in one system call, by perf: which sees the kernel, and no Python.

Its samples are of the processor's clock: a thread that sleeps has none. Virtual machines have that, too, which have no
counters of the processor.
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
    """Of the CPU that the process takes while ``busy`` is called over and over, the kernel's share in that call.

    ``call``: what is in the kernel's name of it, such as ``epoll_pwait``. Raises Missing.
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
    """What ``perf script`` lists: each sample's frames a line each, an empty line behind."""
    return [one for one in listed.split("\n\n") if one.strip()]
