"""Sample a process with py-spy: its stacks of Python and native frames, and the number of samples of each.

py-spy stops the process to read its stack. From another processor the stop arrives late, and the process is often
found in a system call that it made in between. Measured that way, fstat had 12 % of the time of a page of 10,000
series, where perf finds 1.3 %. With both on one processor, the process does not run until py-spy has read its stack,
and fstat has 1.4 %. The client uses the other processors.

py-spy leaves out sleeping threads, but takes some threads for active that wait in epoll or for a lock, or, on one
processor, for the processor. :func:`parsed` leaves out these stacks, and with them the kernel's work in these calls.
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
    """The stacks that were sampled while ``busy`` was called repeatedly. Raises Missing."""
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
    """Parse py-spy's raw format: frames between semicolons, and the number of samples. Leaves out waiting stacks."""
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
    """Pin that process, and this thread with its children, to one processor; yields the other processors."""
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
    """Pin all threads of the process to these processors."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.sched_setaffinity(int(task.name), processors)
