"""The writer's lock (I5): one writer to a ring, and a second one that learns which process has it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from shm.errors import RingForeign, WriterBusy


@dataclass(slots=True)
class WriterLock:
    """Invariant I5: the right to write to one source's ring, held for the life of the process.

    A POSIX record lock: the kernel frees it at any death of this process, a forked child does not inherit it,
    and no reader can take it (that needs a writable descriptor of a 0600 file). Two things it does not do by
    itself: it does not keep a second writer of *the same* process out, and closing any descriptor of the file
    frees it. So the process keeps a table of what it holds, and never opens the file twice.
    """

    path: Path
    fd: int

    @classmethod
    def acquire(cls, path: Path, source: str) -> WriterLock:
        """The lock at ``path``. Raises WriterBusy, with the holder's pid, when the ring has a writer. Never waits."""
        with _held_guard:
            if path in _held:
                raise WriterBusy(source, os.getpid())
            # Now, not when it is held: a signal's handler that wants it meanwhile must not open the file.
            _held.add(path)
            try:
                return cls(path, cls._opened(path, source))
            except BaseException:
                _held.discard(path)
                raise

    @staticmethod
    def _opened(path: Path, source: str) -> int:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise RingForeign(
                source,
                f"its lock {path} can't be opened: {error.strerror}; "
                "run as the user that owns it, or choose another namespace",
            ) from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise RingForeign(source, f"its lock {path} is not a regular file; remove it")
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WriterBusy(source, _holder(fd)) from None
            except PermissionError:  # the other errno that lockf(3) allows for a lock that is held
                raise WriterBusy(source, 0) from None
            # For the message of whoever comes second; without it where a full /dev/shm has no page for it. Padded,
            # not truncated: the page that the file has once, it keeps.
            with contextlib.suppress(OSError):
                os.pwrite(fd, b"%-20d\n" % os.getpid(), 0)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def release(self) -> None:
        with _held_guard:
            if self.fd >= 0:
                os.close(self.fd)
                self.fd = -1
                _held.discard(self.path)


def record_lock(fd: int) -> int | None:
    """Pid of another process that holds a record lock on the file; None where there is none.

    0 or −1 for a holder in another pid namespace.
    """
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(pid)


def _holder(fd: int) -> int:
    """Pid of the process that holds the lock; 0 where it is unknown.

    The kernel knows at any instant. The word in the file is that of the holder before for the moment between the
    lock and the word; it is for a holder in another pid namespace.
    """
    pid = record_lock(fd) or 0
    if pid > 0:
        return pid
    said = os.pread(fd, 32, 0).split()
    return int(said[0]) if said and said[0].isdigit() else 0


_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid
_held: set[Path] = set()
_held_guard = threading.RLock()  # a signal's handler, or a destructor, may come to want a lock, too


def _forget_held() -> None:
    # A forked child holds no record lock, and must be free to take one of its own; and a guard that another thread
    # held at the fork would never be released here.
    global _held_guard
    _held_guard = threading.RLock()
    _held.clear()


os.register_at_fork(after_in_child=_forget_held)
