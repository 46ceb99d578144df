"""What the allocator keeps: a window's memory is there again at the next request, without page faults."""

from __future__ import annotations

import resource
import subprocess
import sys

from exporter.window.incremental.memory import KEPT_BYTES

_CODE = """
import resource, sys, threading
import numpy
from exporter.window.incremental import memory

if sys.argv[1] == "kept":
    assert memory.keep_freed()

def windows():
    for _ in range(50):
        [numpy.ones(memory.KEPT_BYTES // 32) for _ in range(3)]  # three quarters of what is kept: a window and its work

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
    pages = KEPT_BYTES // resource.getpagesize()
    assert faults("kept") < 2 * pages, "once, at most"
    assert faults("") > 10 * pages, "without, every time: there would be no need for it"
