"""Resources of a process, read from /proc: CPU time, memory by kind, threads, files, context switches, page faults.

psutil finds the processes and counts files and threads. Values that psutil has only for the main thread (switches), in
hundredths of a second (time) or not at all (faults, kinds of memory) are read from /proc directly.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.harness import exact_cpu_seconds
from shm.process import process_fields

MIB = 2**20
_SWITCHES = re.compile(r"^(?:non)?voluntary_ctxt_switches:\s+(\d+)", re.MULTILINE)
_MAPPING = re.compile(r"^[0-9a-f]+-[0-9a-f]+ .{4} \S+ \S+ \d+ *(.*)$")


@dataclass(frozen=True, slots=True)
class Reading:
    """One process at one moment. ``cpu_seconds``, ``switches`` and ``faults`` are since its start."""

    at: float
    cpu_seconds: float
    switches: int
    faults: int
    threads: int
    files: int
    pss_bytes: int
    ring_bytes: int  # of pss_bytes, what is shared memory: the rings, whose size is fixed


def read(process: psutil.Process) -> Reading:
    pid = process.pid
    pss, rings = pss_bytes(pid)
    return Reading(
        at=time.monotonic(),
        cpu_seconds=exact_cpu_seconds(pid),
        switches=_switches(pid),
        faults=_faults(pid),
        threads=process.num_threads(),
        files=process.num_fds(),
        pss_bytes=pss,
        ring_bytes=rings,
    )


def pss_bytes(pid: int) -> tuple[int, int]:
    """(total PSS, PSS of shared memory), from smaps_rollup."""
    kilobytes = {
        name: int(value.split()[0])
        for name, _, value in (
            line.partition(":") for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        )
        if name in ("Pss", "Pss_Shmem")
    }
    return 1024 * kilobytes["Pss"], 1024 * kilobytes.get("Pss_Shmem", 0)


def anonymous_bytes(pid: int) -> int:
    """Bytes that the process has allocated itself, without mapped files and memory of other processes.

    PSS is not suitable to detect growth: it changes with every other program that maps the same libraries.
    """
    [kilobytes] = re.findall(r"^Anonymous: +([0-9]+) kB$", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    return 1024 * int(kilobytes)


def _switches(pid: int) -> int:
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that ends meanwhile
            total += sum(map(int, _SWITCHES.findall((task / "status").read_text())))
    return total


def _faults(pid: int) -> int:
    """Minor and major page faults of all threads: fields 10 and 12 of /proc/PID/stat (proc(5))."""
    fields = process_fields(pid)
    return int(fields[7]) + int(fields[9])


def tree(pid: int) -> list[psutil.Process]:
    """A process and all its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def tree_cpu_seconds(pid: int) -> float:
    """Usage of all of them, including children that exited and were waited for."""
    total = 0.0
    for process in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            ended = process.cpu_times()
            total += exact_cpu_seconds(process.pid) + ended.children_user + ended.children_system
    return total


def tree_pss_bytes(pid: int) -> int:
    total = 0
    for process in tree(pid):
        with contextlib.suppress(OSError):  # one that ends meanwhile
            total += pss_bytes(process.pid)[0]
    return total


def pss_by_place(pid: int) -> Counter[str]:
    """PSS in bytes by use of the mapping: ``interpreter``, ``library NAME``, ``heap``, ``stacks``, ``rings``."""
    found: Counter[str] = Counter()
    place = ""
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if line.startswith("Pss:"):
            found[place] += 1024 * int(line.split()[1])
        elif (mapping := _MAPPING.match(line)) is not None:
            place = _place(mapping[1])
    return found


def _place(path: str) -> str:
    name = path.rpartition("/")[2]
    if not path or path.startswith(("[heap]", "[anon")):
        return "heap"
    if path.startswith("["):
        return "stack"
    if "/dev/shm/" in path:
        return "rings"
    if name.startswith(("python3", "libpython")):
        return "interpreter"
    if "site-packages/" in path:
        return "library " + path.partition("site-packages/")[2].split("/")[0].split(".")[0].removesuffix("_libs")
    if "lib-dynload/" in path:
        return "library of Python"
    return "library of the system"


def slope(points: Iterable[tuple[float, float]]) -> float:
    """The slope of y over x by least squares; 0 without enough points."""
    known = list(points)
    if len(known) < 2:
        return 0.0
    return statistics.linear_regression(*zip(*known, strict=True)).slope
