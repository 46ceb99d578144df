"""Tuning for the machine: numpy's CPU features and glibc's allocator.

    features_left_out()   a day of 1,000 series is sorted in 40 ms instead of 136 on AMD's Zen 4
    keep_freed_memory()   an hour of 1,000 series is computed in half the time: no page faults for its scratch memory

Measured by ``make bench ONLY="windows simd"``. Import this module before numpy, which reads its environment once.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Final

from fogmetrics.allocator import use_one_arena

# ---- the processor's registers -------------------------------------------------------------------------------

_ZEN_3_AND_4: Final = "25"  # the processor family; of these, only Zen 4 has AVX-512


def features_left_out(cpuinfo: Path = Path("/proc/cpuinfo"), version: str = "") -> str:
    """The value for numpy's NPY_DISABLE_CPU_FEATURES: AVX-512 on AMD's Zen 4, else "".

    On Zen 4 a compressed store to memory is slow microcode, and numpy's AVX-512 sort makes one for every eight samples
    (https://github.com/numpy/x86-simd-sort/issues/6). ``version``: numpy's, by default the installed one's.
    """
    if not _is_zen_4(cpuinfo):
        return ""
    from importlib import metadata  # 2 MiB, only on these processors

    release = tuple(int(part) for part in (version or metadata.version("numpy")).split(".")[:2] if part.isdigit())
    return "X86_V4" if release >= (2, 4) else "AVX512_SKX"  # from 2.4 on features go by the levels of x86-64


def _is_zen_4(cpuinfo: Path) -> bool:
    try:
        with cpuinfo.open(encoding="ascii", errors="replace") as lines:
            first = list(itertools.takewhile(str.strip, lines))  # the first processor; the others are alike
    except OSError:
        return False
    pairs = dict(line.split(":", 1) for line in first if ":" in line)
    fields = {name.strip(): value.split() for name, value in pairs.items()}
    return (
        fields.get("vendor_id") == ["AuthenticAMD"]
        and fields.get("cpu family") == [_ZEN_3_AND_4]
        and "avx512f" in fields.get("flags", ())
    )


# ---- the allocator -------------------------------------------------------------------------------------------

KEPT_BYTES: Final = 8 << 20


def keep_freed_memory() -> bool:
    """Make glibc keep up to KEPT_BYTES of freed memory, in one arena for all threads. False for another C library.

    By default a window's few MiB return to the kernel after each request, and the next request causes a page fault for
    each 4 KiB.
    """
    return use_one_arena(KEPT_BYTES)
