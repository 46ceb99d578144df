from __future__ import annotations

import subprocess
import sys

_CODE = """
import sys, threading
from fogmetrics.allocator import use_one_arena

if sys.argv[1] == "one":
    assert use_one_arena()

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4

def blocks():
    [bytes(65536) for _ in range(100)]

before = resident()
turn, end = threading.Lock(), threading.Barrier(9)

def thread():
    with turn:
        blocks()
    end.wait()  # no arena is free for another thread before

threads = [threading.Thread(target=thread) for _ in range(8)]
for one in threads:
    one.start()
while turn.locked() or end.n_waiting < 8:
    pass
print(resident() - before)
end.wait()
"""


def kib(how: str) -> int:
    return int(subprocess.run([sys.executable, "-c", _CODE, how], capture_output=True, text=True, check=True).stdout)


def test_a_thread_uses_what_another_has_freed() -> None:
    assert 4 * kib("one") < kib(""), "without, each of the eight threads keeps its own"
