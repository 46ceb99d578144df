"""The writer's lock (I5): one writer per ring; a second one fails at once and learns the holder's pid."""

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
    """The right to write to one source's ring (I5), held for the life of the process.

    A POSIX record lock: the kernel frees it however this process dies, a forked child does not inherit it, and no
    reader can take it (that needs a writable descriptor of a 0600 file). It has two gaps: it does not exclude a second
    writer in *the same* process, and closing any descriptor of the file frees it. So the process keeps a table of the
    locks it holds, and never opens a lock file twice.
    """

    path: Path
    fd: int

    @classmethod
    def acquire(cls, path: Path, source: str, *, of_any_user: bool = False) -> WriterLock:
        """Take the lock at ``path``, without waiting. Raises WriterBusy, with the holder's pid, if it is held.

        Raises RingForeign for a file of another user, who could hold the lock for ever or replace the file; root's
        files are accepted. ``of_any_user``: accept every user's file, for root, who removes files of all users.
        """
        with _held_guard:
            if path in _held:
                raise WriterBusy(source, os.getpid())
            # Before the lock is taken: a signal handler that wants the same lock meanwhile must not open the file.
            _held.add(path)
            try:
                return cls(path, cls._opened(path, source, of_any_user))
            except BaseException:
                _held.discard(path)
                raise

    @staticmethod
    def _opened(path: Path, source: str, of_any_user: bool) -> int:
        try:
            fd = _open(path)
        except OSError as error:
            raise RingForeign(
                source,
                f"its lock {path} can't be opened: {error.strerror}; "
                "run as the user that owns it, or choose another namespace",
            ) from error
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise RingForeign(source, f"its lock {path} is not a regular file; remove it")
            if status.st_uid not in (os.geteuid(), 0) and not of_any_user:
                raise RingForeign(
                    source,
                    f"its lock {path} belongs to user {status.st_uid}, and this is user {os.geteuid()}; "
                    "run as the user that owns it, remove it, or choose another namespace",
                )
            try:
                fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise WriterBusy(source, _holder(fd)) from None
            # The pid, for the error of a second writer; skipped if a full /dev/shm has no page for it. Padded instead
            # of truncated, so that the file keeps its page.
            with contextlib.suppress(OSError):
                os.pwrite(fd, b"%-20d\n" % os.getpid(), 0)
        except BaseException:
            os.close(fd)
            raise
        return fd

    @property
    def removed(self) -> bool:
        """Whether the file was removed: another process may then hold a new one."""
        return os.fstat(self.fd).st_nlink == 0

    def release(self) -> None:
        with _held_guard:
            os.close(self.fd)
            _held.discard(self.path)


def _open(path: Path) -> int:
    """Open the file, or create it. O_CREAT fails for another user's file, even for root, with fs.protected_regular."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    while True:
        with contextlib.suppress(FileNotFoundError):
            return os.open(path, flags)
        with contextlib.suppress(FileExistsError):  # another process was faster
            return os.open(path, flags | os.O_CREAT | os.O_EXCL, 0o600)


def record_lock(fd: int) -> int | None:
    """Pid of another process that holds a record lock on the file; None if there is none.

    0 or −1 for a holder in another pid namespace.
    """
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    return None if kind == fcntl.F_UNLCK else int(pid)


def _holder(fd: int) -> int:
    """Pid of the process that holds the lock; 0 if unknown.

    The kernel's answer is always current. The pid in the file is for a holder in another pid namespace; until a new
    holder has written its own, it is the previous holder's.
    """
    pid = record_lock(fd) or 0
    if pid > 0:
        return pid
    words = os.pread(fd, 32, 0).split()
    return int(words[0]) if words and words[0].isdigit() else 0


_FLOCK: Final = struct.Struct("hhqqi4x")  # struct flock of 64-bit Linux: type, whence, start, length, pid
_held: set[Path] = set()
_held_guard = threading.RLock()  # reentrant: a signal handler or a destructor may take a lock too


def _forget_held() -> None:
    # A forked child holds no record lock, and may take one of its own. A guard that another thread held at the fork
    # would never be released in the child.
    global _held_guard
    _held_guard = threading.RLock()
    _held.clear()


os.register_at_fork(after_in_child=_forget_held)
