"""Check whether a ring's writer is alive: by its pid and start time in /proc, or by its heartbeat."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WriterInfo:
    """A ring's writer, as the header names it. ``pid``: 0 after an orderly stop; ``heartbeat_ns``: CLOCK_BOOTTIME."""

    pid: int
    start_ticks: int
    pid_namespace: int
    heartbeat_ns: int


def process_fields(pid: int | str) -> list[bytes]:
    """The fields of /proc/PID/stat from the third, the state (proc(5)). Raises OSError if there is no such process."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The second field is the program's name in parentheses, and may hold spaces and parentheses.
        return file.read().rpartition(b")")[2].split()


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), field 22 of stat); 0 if it is not alive."""
    try:
        fields = process_fields(pid)
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])  # Z, X: dead, not yet reaped
    except (OSError, ValueError, IndexError):
        return 0


def pid_namespace() -> int:
    """The inode of this process's pid namespace; 0 if /proc does not show it."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def writer_alive(writer: WriterInfo, interval_ns: int) -> bool:
    """Whether the ring's writer is alive.

    Decided by pid and start time (a pid may be reused) if /proc shows the process. Otherwise, in another pid namespace
    or under hidepid, the heartbeat must be younger than three intervals.
    """
    if writer.pid == 0:
        return False
    if writer.pid_namespace == pid_namespace() != 0 and not _hidden(writer.pid):
        return start_ticks(writer.pid) == writer.start_ticks != 0
    age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - writer.heartbeat_ns
    return 0 <= age_ns <= 3 * interval_ns


def _hidden(pid: int) -> bool:
    """Whether the process exists but /proc (mounted with hidepid) does not show it to this user."""
    if os.path.exists(f"/proc/{pid}"):
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return False
