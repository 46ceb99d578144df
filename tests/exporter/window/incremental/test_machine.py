"""What depends on the machine: AVX-512 is left out on Zen 4 alone, and freed memory is kept."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.window.incremental import machine

ZEN_4 = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nflags\t\t: fpu avx2 avx512f\n\n"
    "processor\t: 1\nvendor_id\t: AuthenticAMD\n"
)


@pytest.mark.parametrize(
    ("cpuinfo", "version", "expected"),
    [
        (ZEN_4, "2.4.6", "X86_V4"),
        (ZEN_4, "2.10.0rc1", "X86_V4"),
        (ZEN_4, "2.3.5", "AVX512_SKX"),
        (ZEN_4.replace("25", "26"), "2.4.6", ""),
        (ZEN_4.replace(" avx512f", ""), "2.4.6", ""),
        (ZEN_4.replace("AuthenticAMD", "GenuineIntel"), "2.4.6", ""),
        ("no such file", "2.4.6", ""),
    ],
)
def test_the_choice(tmp_path: Path, cpuinfo: str, version: str, expected: str) -> None:
    if cpuinfo != "no such file":
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert machine.features_left_out(tmp_path / "cpuinfo", version) == expected


def test_the_installed_numpy_knows_the_name(tmp_path: Path) -> None:
    """It warns of a feature that it does not choose by, and would sort as before."""
    if platform.machine() != "x86_64":
        return  # numpy has other features there, and this one is never left out
    (tmp_path / "cpuinfo").write_text(ZEN_4)
    environ = {**os.environ, "NPY_DISABLE_CPU_FEATURES": machine.features_left_out(tmp_path / "cpuinfo")}
    run = subprocess.run([sys.executable, "-W", "always", "-c", "import numpy"], env=environ, capture_output=True)
    assert run.returncode == 0
    assert b"not part of the dispatched" not in run.stderr


_CODE = """
import resource, sys, threading
import numpy
from exporter.window.incremental import machine

if sys.argv[1] == "kept":
    assert machine.keep_freed_memory()

def windows():
    for _ in range(50):
        [numpy.ones(machine.KEPT_BYTES // 32) for _ in range(3)]  # three quarters of what is kept

windows()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
worker = threading.Thread(target=windows)
worker.start()
worker.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    run = subprocess.run([sys.executable, "-c", _CODE, how], capture_output=True, text=True, check=True)
    return int(run.stdout)


def test_freed_memory_is_found_again() -> None:
    pages = machine.KEPT_BYTES // resource.getpagesize()
    assert faults("kept") < 2 * pages, "once, at most"
    assert faults("") > 10 * pages, "without, every time: there would be no need for it"
