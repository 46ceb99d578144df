"""Attack I5, one writer: starts at one instant, forks, deaths, stale locks and headers, and pids that are used again.

The contenders run in :mod:`tests.siege.writers.contest`; what a lock file or a header says is changed here.
"""

from __future__ import annotations

import os
import subprocess
import sys

from shm.errors import WriterBusy
from shm.files import lock_path, ring_path
from shm.process import WriterInfo, pid_namespace, start_ticks, writer_alive
from shm.ring.layout import WORD_PID, WORD_PID_NAMESPACE, WORD_PID_START
from shm.ring.reader import RingReader
from tests.rings import INTERVAL_NS, append_proof, open_writer
from tests.siege.harness import Counts, Effort, Mutant, own_namespace, require
from tests.siege.processes import ask

_CONTEST = "tests.siege.writers.contest"


def check(effort: Effort) -> Counts:
    rounds, times = effort.many(120, 2200), effort.many(12, 200)
    counts: dict[str, int | str] = {}
    with own_namespace() as namespace:
        counts |= ask(_CONTEST, "race", namespace, rounds, effort.seed, timeout=60 + rounds)
    with own_namespace() as namespace:
        stale_locks(namespace)
    with own_namespace() as namespace:
        stale_headers(namespace)
    if os.geteuid() == 0 and _can_have_pids():
        apart = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
        with own_namespace() as namespace:
            counts |= ask(_CONTEST, "reuse", namespace, times, prefix=apart, timeout=60 + times)
    return counts


def _can_have_pids() -> bool:
    """Whether this host grants a pid namespace of its own, in which the next number can be chosen."""
    tried = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", "echo 99 > /proc/sys/kernel/ns_last_pid"]
    return subprocess.run(tried, capture_output=True, check=False).returncode == 0


def stale_locks(namespace: str) -> None:
    """The text of a lock file that no process holds keeps no writer out."""
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    texts = [str(dead.pid), str(os.getppid()), "1", str(os.getpid()), "", "no number", "9" * 400, "\0" * 64, "-1"]
    for text in texts:
        lock_path(namespace, "s").write_text(f"{text}\n")
        lock_path(namespace, "s").chmod(0o600)
        try:
            with open_writer(namespace, columns=2) as writer:
                append_proof(writer)
                said = lock_path(namespace, "s").read_bytes()[:32].split()
                require(said[0] == b"%d" % os.getpid(), f"I5: the lock of process {os.getpid()} says {said!r}")
        except WriterBusy as busy:
            require(False, f"I5: a lock file that nobody holds and that says {text!r} kept a writer out: {busy}")


def stale_headers(namespace: str) -> None:
    """The process that a header names as the writer counts as alive only if it is that very process."""
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer)
    sleeper = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    mine = pid_namespace()
    try:
        its = start_ticks(sleeper.pid)
        assert its
        gone = subprocess.Popen([sys.executable, "-c", ""])
        gone.wait()
        cases = [
            (sleeper.pid, its, True),
            (sleeper.pid, its - 1, False), (sleeper.pid, its + 1, False), (sleeper.pid, 0, False),
            (sleeper.pid, (1 << 64) - 1, False), (os.getpid(), its, False), (1, its, False), (gone.pid, its, False),
            (gone.pid, 0, False), (0, its, False), ((1 << 64) - 1, its, False), (1 << 31, its, False),
        ]  # fmt: skip
        for pid, ticks, lives in cases:
            _put(namespace, {WORD_PID: pid, WORD_PID_START: ticks, WORD_PID_NAMESPACE: mine})
            with RingReader(namespace, "s") as reader:
                info: WriterInfo = reader.writer
                assert (info.pid, info.start_ticks) == (pid, ticks)
                require(
                    writer_alive(info, INTERVAL_NS) == lives,
                    f"I5: a header with the pid {pid} and the start time {ticks} of "
                    f"{'a process that lives' if lives else 'no process, or of another'} "
                    f"is taken for {'a dead writer' if lives else 'a writer that lives'}",
                )
            with open_writer(namespace, columns=2) as writer:  # and it keeps nobody out
                append_proof(writer)
    finally:
        sleeper.communicate()


def _put(namespace: str, words: dict[int, int]) -> None:
    with ring_path(namespace, "s").open("r+b") as file:
        for word, value in words.items():
            file.seek(8 * word)
            file.write(value.to_bytes(8, "little"))


MUTANTS = (
    Mutant(
        "writers", "the lock is shared", "shm.ring.lock:WriterLock._opened",
        code="fcntl.LOCK_EX", becomes="fcntl.LOCK_SH",
        says="I5: a second writer in the same process was refused, a start was not refused", scale=0.3,
    ),
    Mutant(
        "writers", "flock as well, which a fork carries away", "shm.ring.lock:WriterLock._opened",
        code="fcntl.lockf", becomes="lambda *lock: [fcntl.lockf(*lock), fcntl.flock(*lock)]",
        says="I5: the writer was killed, a child of it lives, a start was refused", scale=0.5,
    ),
    Mutant(
        "writers", "no table of what the process holds", "shm.ring.lock:WriterLock.acquire",
        code="_held.add(path)", becomes="None",
        says="I5: a second writer in the same process was let in", scale=0.1,
    ),
    Mutant(
        "writers", "a fork may append", "shm.ring.writer:_disown",
        code="list(_writers)", becomes="()", says="I5: a fork of the writer could", scale=0.5,
    ),
    Mutant(
        "writers", "start times are not compared", "shm.process:writer_alive",
        code="start_ticks(writer.pid) == writer.start_ticks != 0", becomes="start_ticks(writer.pid) != 0",
        says="is taken for a writer that lives", scale=0.1,
    ),
)  # fmt: skip
