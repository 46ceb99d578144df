"""Where a process's CPU goes, as py-spy samples it: stacks of Python's and native frames, and how often each was met.

py-spy stops the process to look at its stack. From another processor the stop comes late: a process that computes goes
on until the interrupt has reached it, and is found in whatever system call it made meanwhile. Measured so, the stats of
a page of 10,000 series had 12 % of its time, where perf finds 1.3. Therefore both are put on one processor: the process
is where it was when py-spy took its place, and the stats have 1.4 %. The other processors do the asking.

Waiting is not work. py-spy leaves out threads that sleep, but takes some of those for awake that wait in epoll or for a
lock, and on one processor those that wait for their turn: :func:`parsed` leaves out what is found there. What the
kernel does in these calls is left out with it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from benchmarks.harness import Missing

Stack = tuple[str, ...]
"""From the thread's start to where it was: ``name (file.py:line)``, ``name (library.so)``."""

_RATE: Final = 997  # a second; no multiple of the kernel's tick
_HOW: Final = "pip install py-spy, and let it trace: as root, or with CAP_SYS_PTRACE"
_WAITING_CALLS: Final = re.compile(r"^(epoll_p?wait|futex|sem_\w*wait|pthread_cond_\w*wait) \(")
# The innermost Python frame of a thread that waits for work; and of one that has woken the event loop, which has the
# processor then.
_WAITING_FUNCTIONS: Final = re.compile(r"^(_worker \(concurrent/futures/|.*\b_call_set_state \(asyncio/futures)")
_UNNAMED: Final = re.compile(r"^0x\w+ \(libc")
_PYTHON: Final = re.compile(r"\.py:\d+\)$")


def record(pid: int, seconds: int, busy: Callable[[], object]) -> Counter[Stack]:
    """Stacks that were met while ``busy`` was called over and over. Raises Missing."""
    py_spy = find()
    with tempfile.TemporaryDirectory(prefix="fogmetrics-") as directory, _apart(pid) as others:
        output, log = Path(directory) / "stacks", Path(directory) / "log"
        command = [py_spy, "record", "--native", "--format", "raw", "--rate", str(_RATE), "--duration", str(seconds)]
        with log.open("wb") as out:
            process = subprocess.Popen([*command, "--output", output, "--pid", str(pid)], stdout=out, stderr=out)
        try:
            os.sched_setaffinity(0, others)
            while process.poll() is None:
                busy()
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise Missing(f"py-spy (it says: {log.read_text().strip()[-200:]})", _HOW)
        return parsed(output.read_text())


def find() -> str:
    """The path of py-spy, beside this interpreter or on PATH. Raises Missing."""
    found = shutil.which("py-spy", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if found is None:
        raise Missing("py-spy", _HOW)
    return found


def parsed(raw: str) -> Counter[Stack]:
    """py-spy's raw format: frames between semicolons, and how often that stack was met. Without those that wait."""
    stacks: Counter[Stack] = Counter()
    for line in raw.splitlines():
        frames, _, count = line.rpartition(" ")
        stack = tuple(frames.split(";"))
        if not _waits(stack):
            stacks[stack] += int(count)
    return stacks


def _waits(stack: Stack) -> bool:
    innermost = next((frame for frame in reversed(stack) if _PYTHON.search(frame)), "")
    named = next((frame for frame in reversed(stack) if not _UNNAMED.search(frame)), "")
    # libuv by itself calls nothing of the C library that has no name, except to get the interpreter's lock.
    locked = named is not stack[-1] and named.startswith("uv_")
    return bool(locked or _WAITING_CALLS.search(stack[-1]) or _WAITING_FUNCTIONS.search(innermost))


@contextlib.contextmanager
def _apart(pid: int) -> Iterator[set[int]]:
    """Put that process, and this thread with what it starts, on one processor; yields the other ones."""
    before = os.sched_getaffinity(0)
    *others, last = sorted(before)
    try:
        _put(pid, {last})
        os.sched_setaffinity(0, {last})
        yield set(others) or before
    finally:
        os.sched_setaffinity(0, before)
        _put(pid, before)


def _put(pid: int, processors: set[int]) -> None:
    """All threads of the process on those."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(task.name), processors)
