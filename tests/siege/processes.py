"""Child processes of the checks, which may die, run as another user, or have a /dev/shm of their own size.

:func:`ask` runs a program of a module of this package in a process of its own and returns what it counted. A Violation
that the program raises is raised again here; so is its death by a signal. ``python -m tests.siege.processes UID GID
DIRECTORIES COMMAND…`` runs a command as another user.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

import shm
from tests.programs import unmeasured
from tests.siege.harness import ROOT, VIOLATED, Violation

UNABLE: Final = 77  # exit status of a program that lacks a right which it needs (automake's "skipped")

# sched.h, sys/mount.h and sys/prctl.h
_CLONE_NEWNS = 0x00020000
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000
_PR_SET_CHILD_SUBREAPER = 36
_SHM: Final = str(Path(shm.__file__).parent)

_libc = ctypes.CDLL(None, use_errno=True)

Done = dict[str, int | str]


class Unable(Exception):
    """This host denies what the program needs. The message says what."""


def environ() -> dict[str, str]:
    """This process's environment without coverage, which another user could not write and a killed process never
    does, and without settings of fogmetrics.
    """
    return {name: value for name, value in unmeasured().items() if not name.startswith("FOGMETRICS_")}


def ask(module: str, program: str, *arguments: object, prefix: Sequence[str] = (), timeout: float = 120.0) -> Done:
    """Run the program; return what it counted. Raises Violation where it did, or where a signal ended it; skips the
    test where the program is unable to run.
    """
    with asking(module, program, *arguments, prefix=prefix, timeout=timeout) as answer:
        return answer()


@contextlib.contextmanager
def asking(
    module: str, program: str, *arguments: object, prefix: Sequence[str] = (), timeout: float = 120.0
) -> Iterator[Callable[[], Done]]:
    """Run the program beside the block, which may call for its answer; it is killed at the end of the block."""
    process = subprocess.Popen(
        [*prefix, sys.executable, "-m", module, program, *map(str, arguments)],
        cwd=ROOT, env=environ(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield lambda: _answer(process, program, timeout)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # the group: its children end, too
        process.communicate()


def _answer(process: subprocess.Popen[str], program: str, timeout: float) -> Done:
    try:
        out, said = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"{program} did not end within {timeout:g} s: {process.communicate()[1]}") from None
    if process.returncode == VIOLATED:
        raise Violation(said.strip().rpartition("\n")[2])
    if process.returncode == UNABLE:
        pytest.skip(said.strip().rpartition("\n")[2])
    # unshare(1) reports a child that a signal ended as a shell does: 128 plus the signal's number.
    if process.returncode < 0 or process.returncode > 128:
        number = -process.returncode if process.returncode < 0 else process.returncode - 128
        raise Violation(f"{program} was ended by {signal.Signals(number).name}: {said[-2000:]}")
    assert process.returncode == 0, f"{program} failed by itself: {said}"
    done: Done = json.loads(out)
    return done


def main(programs: Mapping[str, Callable[..., Done]]) -> int:
    """Run the program that the command line names; its module calls this when it is executed."""
    name, *arguments = sys.argv[1:]
    try:
        done = programs[name](*arguments)
    except AssertionError as broken:  # a Violation, or a proof of tests.rings
        said = str(broken) or traceback.format_exc()
        print(" ".join(said.split()), file=sys.stderr, flush=True)
        return VIOLATED
    except Unable as unable:
        print(unable, file=sys.stderr)
        return UNABLE
    print(json.dumps(done))
    return 0


def ended(status: int) -> str:
    """How a process ended, in words; empty for exit status 0. ``status``: of Popen.returncode."""
    return f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}" if status else ""


def cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def fork(work: Callable[[], object]) -> int:
    """The pid of a child that does the work and ends at once: with status 0, or with 99 and a line where it raised."""
    pid = os.fork()
    if not pid:
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it must not go on as its parent
            print(f"child: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(99)
        os._exit(0)
    return pid


def reaped(pid: int, seconds: float = 60.0) -> int:
    """The child's exit status, as Popen.returncode. A child that hangs is killed, and that is a Violation."""
    deadline = time.monotonic() + seconds
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            kill_all([pid])
            raise Violation(f"a process was still busy after {seconds:g} s: a lock that nobody frees")
        time.sleep(0.0005)


def kill_all(pids: Iterable[int]) -> None:
    """Kill those children, and reap them and any others that have ended or been adopted."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        while True:
            os.waitpid(-1, 0)


def dies_at_line(line: int, prepare: Callable[[], Callable[[], object]], what: str) -> bool:
    """Whether a fork was killed at the ``line``-th line of shm/ that ``prepare()()`` runs; False if it ended before."""

    def die() -> None:
        act, left = prepare(), line

        def trace(frame: types.FrameType, event: str, argument: object) -> Any:
            nonlocal left
            if not frame.f_code.co_filename.startswith(_SHM):
                return None
            left -= event == "line"
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace

        sys.settrace(trace)
        act()

    status = reaped(fork(die))
    if status not in (0, -signal.SIGKILL):
        raise Violation(f"{what} {ended(status)} by itself, before line {line}")
    return status != 0


def adopt_orphans() -> None:
    """Become the parent of orphaned grandchildren, so that they can be waited for."""
    libc("prctl", _PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


# ---- mounts of our own, another user -------------------------------------------------------------------------


def private_mounts() -> None:
    """Give this process and its children a mount namespace of their own. Raises Unable."""
    try:
        libc("unshare", _CLONE_NEWNS)
        _mount("none", "/", "", _MS_REC | _MS_PRIVATE)
    except PermissionError as error:
        raise Unable(f"it needs the right to mount (root, CAP_SYS_ADMIN): {error}") from None


def small_shm(size: int) -> None:
    """Mount a /dev/shm of ``size`` bytes for this process and its children. Raises Unable."""
    private_mounts()
    _mount("tmpfs", "/dev/shm", "tmpfs", 0, f"size={size}")


def as_user(user: int, group: int, directories: Iterable[Path]) -> list[str]:
    """The command prefix that runs a command as that user, with access to ``directories``."""
    wanted = os.pathsep.join(map(str, directories))
    return [sys.executable, "-m", "tests.siege.processes", str(user), str(group), wanted]


def become(user: int, group: int, directories: Iterable[Path]) -> None:
    """Drop root for good. Raises Unable.

    Directories below one that is closed to others (a checkout or an interpreter in /root, a temporary directory) are
    bind-mounted in place in a mount namespace, so that no mode on the host changes.
    """
    hidden = {one: closed for one in directories if (closed := _closed_above(one)) is not None}
    if hidden:
        private_mounts()
        held = {one: os.open(one, os.O_PATH | os.O_CLOEXEC) for one in hidden}
        for top in set(hidden.values()):
            _mount("tmpfs", str(top), "tmpfs", 0, "mode=755")
        os.umask(0o022)
        for one in sorted(hidden, key=lambda path: len(path.parts)):
            one.mkdir(parents=True, exist_ok=True)
            _mount(f"/proc/self/fd/{held[one]}", str(one), "", _MS_BIND | _MS_REC)
    os.chdir(ROOT)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.setgroups([])
    os.setgid(group)
    os.setuid(user)


def _closed_above(directory: Path) -> Path | None:
    """The topmost parent that others may not enter, if there is one. Raises Unable where ``directory`` is closed."""
    if not directory.stat().st_mode & 0o001:
        raise Unable(f"another user may not enter {directory}; chmod o+rx")
    return next((one for one in reversed(directory.parents) if not one.stat().st_mode & 0o001), None)


def _mount(what: str, where: str, kind: str, flags: int, options: str = "") -> None:
    text = [part.encode() or None for part in (what, where, kind, options)]
    libc("mount", text[0], text[1], text[2], ctypes.c_ulong(flags), text[3])


def libc(name: str, *arguments: object) -> int:
    """Call a function of the C library that returns −1 where it fails. Raises OSError."""
    result: int = getattr(_libc, name)(*arguments)
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


if __name__ == "__main__":
    try:
        become(int(sys.argv[1]), int(sys.argv[2]), [Path(one) for one in sys.argv[3].split(os.pathsep)])
    except Unable as unable:
        print(unable, file=sys.stderr)
        raise SystemExit(UNABLE) from None
    os.execv(sys.argv[4], sys.argv[4:])
