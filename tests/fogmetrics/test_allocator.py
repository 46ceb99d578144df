from __future__ import annotations

import subprocess
import sys

_CODE = """
import ctypes, sys, threading
from fogmetrics.allocator import use_one_arena

if sys.argv[1] == "one":
    assert use_one_arena()
together = threading.Barrier(8)

def thread():
    together.wait()  # each thread allocates while the others run
    bytes(65536)
    together.wait()

threads = [threading.Thread(target=thread) for _ in range(8)]
for one in threads:
    one.start()
for one in threads:
    one.join()
libc = ctypes.CDLL(None)
libc.malloc_info(0, ctypes.c_void_p.in_dll(libc, "stdout"))  # a heap for each arena
libc.fflush(None)
"""


def arenas(how: str) -> int:
    run = subprocess.run([sys.executable, "-c", _CODE, how], capture_output=True, text=True, check=True)
    return run.stdout.count("<heap ")


def test_threads_share_one_arena() -> None:
    assert arenas("one") == 1
    assert arenas("") > 1, "without, there would be no need for it"
