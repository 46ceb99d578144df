"""How much memory a piece of code takes at most, measured from outside of it."""

from __future__ import annotations

import subprocess
import sys

from tests.programs import unmeasured
from tests.rings import ROOT

_PROGRAM = """\
import contextlib, pathlib, sys

def kibibytes(name):
    return int(pathlib.Path("/proc/self/status").read_text().partition(name + ":")[2].split()[0])

given = sys.stdin.buffer.read()
{setup}
pathlib.Path("/proc/self/clear_refs").write_text("5")
_resident = kibibytes("VmRSS")
{code}
print(kibibytes("VmHWM") - _resident)
"""


def most_resident(setup: str, code: str, given: bytes) -> int:
    """Bytes by which a new process grows at most while it runs ``code``, after ``setup``; both have ``given``.

    The kernel's own high-water mark (proc(5): VmHWM, reset by clear_refs) costs the code nothing; tracemalloc, which
    looks at each allocation, makes a parser five times slower. What is freed in ``setup`` is not seen when it is used
    again: a few hundred KiB.
    """
    program = _PROGRAM.format(setup=setup, code=code)
    run = subprocess.run(
        [sys.executable, "-c", program], input=given, cwd=ROOT, env=unmeasured(), capture_output=True, timeout=60
    )
    assert run.returncode == 0, run.stderr.decode()
    return int(run.stdout) * 1024
