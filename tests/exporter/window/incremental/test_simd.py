"""AVX-512 is left out on Zen 4, and nowhere else."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from exporter.window.incremental import simd

ZEN_4 = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\ncpu family\t: 25\nflags\t\t: fpu avx2 avx512f\n\n"
    "processor\t: 1\nvendor_id\t: AuthenticAMD\n"
)


@pytest.mark.parametrize(
    ("cpuinfo", "version", "expected"),
    [
        (ZEN_4, "2.4.6", "X86_V4"),
        (ZEN_4, "2.10.0rc1", "X86_V4"),
        (ZEN_4, "3.0.0", "X86_V4"),
        (ZEN_4, "2.3.5", "AVX512_SKX"),
        (ZEN_4, "1.26.4", "AVX512_SKX"),
        (ZEN_4.replace("25", "26"), "2.4.6", ""),
        (ZEN_4.replace(" avx512f", ""), "2.4.6", ""),
        (ZEN_4.replace("AuthenticAMD", "GenuineIntel"), "2.4.6", ""),
        ("", "2.4.6", ""),
        ("no such file", "2.4.6", ""),
    ],
)
def test_the_choice(tmp_path: Path, cpuinfo: str, version: str, expected: str) -> None:
    if cpuinfo != "no such file":
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    assert simd.left_out(tmp_path / "cpuinfo", version) == expected


def test_the_installed_numpy_knows_the_name(tmp_path: Path) -> None:
    """It warns of a feature that it does not choose by, and would sort as before."""
    if platform.machine() != "x86_64":
        return  # numpy has other features there, and this one is never left out
    (tmp_path / "cpuinfo").write_text(ZEN_4)
    environ = {**os.environ, "NPY_DISABLE_CPU_FEATURES": simd.left_out(tmp_path / "cpuinfo")}
    run = subprocess.run([sys.executable, "-W", "always", "-c", "import numpy"], env=environ, capture_output=True)
    assert run.returncode == 0
    assert b"not part of the dispatched" not in run.stderr
