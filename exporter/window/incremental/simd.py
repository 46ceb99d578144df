"""Which of the processor's features numpy is to leave alone. For use before numpy is imported, and without it.

On AMD's Zen 4 a compressed store to memory is microcode, and numpy's AVX-512 sort makes one for every eight samples: a
day of 1,000 series takes 136 ms, with AVX2 40 (https://github.com/numpy/x86-simd-sort/issues/6). Only there AVX-512 is
left out.
"""

from __future__ import annotations

import itertools
from pathlib import Path

_ZEN_3_AND_4 = "25"  # of these, 4 alone has AVX-512


def left_out(cpuinfo: Path = Path("/proc/cpuinfo"), version: str = "") -> str:
    """For numpy's NPY_DISABLE_CPU_FEATURES. ``version``: numpy's, by default the installed one's."""
    if not _stores_slowly(cpuinfo):
        return ""
    from importlib import metadata  # 2 MiB: only for those who need it

    # From 2.4 on numpy's features go by the levels of x86-64.
    return "X86_V4" if _release(version or metadata.version("numpy")) >= (2, 4) else "AVX512_SKX"


def _stores_slowly(cpuinfo: Path) -> bool:
    try:
        with cpuinfo.open(encoding="ascii", errors="replace") as lines:
            first = list(itertools.takewhile(str.strip, lines))  # of the processors, which are alike
    except OSError:
        return False
    fields = dict(line.split(":", 1) for line in first if ":" in line)
    told = {name.strip(): value.split() for name, value in fields.items()}
    return (
        told.get("vendor_id") == ["AuthenticAMD"]
        and told.get("cpu family") == [_ZEN_3_AND_4]
        and "avx512f" in told.get("flags", ())
    )


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
