"""Try every way to write to a ring with a reader's rights, as the user that the exporter runs as.

``python -m tests.siege.reader.intruder intrude|outsider NAMESPACE SOURCE OWNER …``, started by the check ``reader``.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import mmap
import os
import signal
import struct
from collections.abc import Callable, Iterator
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np

from shm.errors import RingForeign
from shm.files import DIRECTORY, lock_path, ring_path
from shm.ring.reader import RingReader
from tests.siege.harness import require
from tests.siege.processes import Done, ended, fork, libc, main, reaped

# From asm-generic/fcntl.h, linux/fs.h, linux/falloc.h, sys/mman.h, sys/ptrace.h, sched.h; the numbers of the system
# calls are the same on x86-64 and arm64.
_F_SETLEASE, _F_ADD_SEALS, _F_SEAL_WRITE = 1024, 1033, 8
_FS_IOC_SETFLAGS, _FS_IMMUTABLE = 0x40086602, 0x10
_KEEP_SIZE, _PUNCH_HOLE, _MADV_REMOVE, _PTRACE_ATTACH, _MS_BIND = 1, 2, 9, 16, 4096
_CLONE_NEWUSER, _RENAME_EXCHANGE, _AT_FDCWD = 0x10000000, 2, -100
_SYS_PIDFD_OPEN, _SYS_PIDFD_GETFD = 434, 438

Way = Callable[[], object]


def held(pid: int | str, files: set[str]) -> Iterator[tuple[str, str, bool]]:
    """The descriptors and maps of those files that process ``pid`` has, as (what, which file, whether it may write)."""
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            path = os.readlink(descriptor).removesuffix(" (deleted)")
            if path in files:
                flags = Path(f"/proc/{pid}/fdinfo/{descriptor.name}").read_text().split("flags:")[1].split()[0]
                yield f"descriptor {descriptor.name}", path, int(flags, 8) & os.O_ACCMODE != os.O_RDONLY
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        where, rights, *_ = line.split()
        path = line.partition("/")[1] + line.partition("/")[2].removesuffix(" (deleted)")
        if path in files:
            yield f"map {where} {rights}", path, "w" in rights


def intrude(namespace: str, source: str, owner: str, writer: str) -> Done:
    """Try every way to write to the ring; the number of ways."""
    path = ring_path(namespace, source)
    mine = DIRECTORY / f"fogmetrics.{namespace}.{source}.intruder"
    mine.write_bytes(b"\xff" * 4096)
    tried = 0
    try:
        reader = RingReader(namespace, source, owner=int(owner))
    except RingForeign as error:
        require(False, f"I8: a reader whose group may read wants more than that: {error}")
    with reader, mine.open("r+b") as own:
        frame = reader.latest()
        require(frame is not None, "I8: a reader of the ring's group can't read it")
        reader.frames()
        for what, _, writable in held("self", {str(path)}):
            require(not writable, f"I8: a RingReader has {what} open for writing")
        descriptors = [int(what.split()[1]) for what, *_ in held("self", {str(path)}) if what.startswith("descr")]
        descriptors.append(os.open(path, os.O_RDONLY))
        mapped = mmap.mmap(descriptors[-1], 0, prot=mmap.PROT_READ)  # unmapped by the end: views of it stay
        addresses = [
            int(what.split()[1].partition("-")[0], 16)
            for what, *_ in held("self", {str(path)}) if what.startswith("map")
        ]  # fmt: skip
        ways: dict[str, Way] = {**_by_name(path, mine), **_by_lock(namespace, source), **_by_the_writer(int(writer))}
        for descriptor in descriptors:
            ways |= {f"{name} (descriptor {descriptor})": way for name, way in _by_fd(descriptor, own.fileno()).items()}
        for address in addresses:
            ways |= {f"{name} (map {address:x})": way for name, way in _by_address(address).items()}
        ways |= _by_object(mapped)
        for name, way in ways.items():
            try:
                way()
            except (OSError, TypeError, ValueError, BufferError):
                tried += 1
            else:
                require(False, f"I8: a reader that may only read could {name}")
    mine.unlink()
    return {"ways": tried}


def _by_name(path: Path, mine: Path) -> dict[str, Way]:
    text = str(path).encode()
    return {
        "open for writing": lambda: os.open(path, os.O_WRONLY),
        "open for reading and writing": lambda: os.open(path, os.O_RDWR),
        "open for appending": lambda: os.open(path, os.O_WRONLY | os.O_APPEND),
        "open and cut": lambda: os.open(path, os.O_RDONLY | os.O_TRUNC),
        "attach as SharedMemory": lambda: shared_memory.SharedMemory(path.name),
        "open for writing as root of a user namespace": lambda: _in_user_namespace(path),
        "truncate": lambda: os.truncate(path, 0),
        "unlink": path.unlink,
        "rename away": lambda: path.rename(mine.with_suffix(".away")),
        "rename over": lambda: mine.rename(path),
        "exchange": lambda: libc(
            "renameat2", _AT_FDCWD, str(mine).encode(), _AT_FDCWD, text, ctypes.c_uint(_RENAME_EXCHANGE)
        ),
        "link over": lambda: path.hardlink_to(mine),
        "link symbolically over": lambda: path.symlink_to(mine),
        "mount over": lambda: libc("mount", str(mine).encode(), text, None, ctypes.c_ulong(_MS_BIND), None),
        "chmod": lambda: path.chmod(0o666),
        "chown": lambda: os.chown(path, os.getuid(), -1),
        "utime": lambda: os.utime(path),
        "utime to a time": lambda: os.utime(path, ns=(1, 1)),
        "setxattr": lambda: os.setxattr(path, "user.x", b"1"),
        "set an access list": lambda: os.setxattr(path, "system.posix_acl_access", _access_list()),
    }  # fmt: skip


def _access_list() -> bytes:
    """Everybody may write, as acl(5): version 2, then owner, group, others with 7 each."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, 7, 0xFFFFFFFF) for tag in (1, 4, 0x20))


def _in_user_namespace(path: Path) -> None:
    user, group = os.getuid(), os.getgid()

    def enter_and_open() -> None:
        libc("unshare", _CLONE_NEWUSER)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
        os.open(path, os.O_RDWR)

    _in_fork(enter_and_open)


def _in_fork(way: Way) -> None:
    """Try what can't be undone, or kills. Raises OSError where it failed."""
    if status := reaped(fork(way)):
        raise OSError(f"the fork {ended(status)}")


def _by_lock(namespace: str, source: str) -> dict[str, Way]:
    path = lock_path(namespace, source)
    return {
        "open the lock": lambda: os.open(path, os.O_RDONLY),
        "open the lock for writing": lambda: os.open(path, os.O_RDWR),
        "unlink the lock": path.unlink,
        "rename the lock": lambda: path.rename(path.with_suffix(".away")),
        "chmod the lock": lambda: path.chmod(0o666),
    }  # fmt: skip


def _by_the_writer(pid: int) -> dict[str, Way]:
    def take_descriptor() -> None:
        other = libc("syscall", _SYS_PIDFD_OPEN, pid, 0)
        libc("syscall", _SYS_PIDFD_GETFD, other, 3, 0)

    return {
        "open the writer's memory": lambda: open(f"/proc/{pid}/mem", "r+b"),
        "list the writer's descriptors": lambda: os.listdir(f"/proc/{pid}/fd"),
        "take a descriptor of the writer's": take_descriptor,
        "trace the writer": lambda: libc("ptrace", _PTRACE_ATTACH, pid, None, None),
        "stop the writer": lambda: os.kill(pid, signal.SIGSTOP),
    }


def _by_fd(fd: int, other: int) -> dict[str, Way]:
    def set_flags_and_write() -> None:
        fcntl.fcntl(fd, fcntl.F_SETFL, os.O_RDWR | os.O_APPEND)  # succeeds, and changes nothing of what is allowed
        os.write(fd, b"x")

    return {
        "write": lambda: os.write(fd, b"x"),
        "pwrite": lambda: os.pwrite(fd, b"x", 0),
        "pwritev": lambda: os.pwritev(fd, [b"x"], 4096),
        "write after F_SETFL": set_flags_and_write,
        "sendfile": lambda: os.sendfile(fd, other, 0, 8),
        "copy_file_range": lambda: os.copy_file_range(other, fd, 8, 0, 0),
        "ftruncate": lambda: os.ftruncate(fd, 0),
        "posix_fallocate": lambda: os.posix_fallocate(fd, 0, 1 << 20),
        "punch a hole": lambda: libc("fallocate", fd, _KEEP_SIZE | _PUNCH_HOLE, ctypes.c_long(0), ctypes.c_long(4096)),
        "map for writing": lambda: mmap.mmap(fd, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE),
        "map with ACCESS_WRITE": lambda: mmap.mmap(fd, 4096, access=mmap.ACCESS_WRITE),
        "open for writing again": lambda: os.open(f"/proc/self/fd/{fd}", os.O_RDWR),
        "fchmod": lambda: os.fchmod(fd, 0o666),
        "fchown": lambda: os.fchown(fd, os.getuid(), -1),
        "futimens": lambda: os.utime(fd),
        "fsetxattr": lambda: os.setxattr(fd, "user.x", b"1"),
        "set attributes": lambda: fcntl.ioctl(fd, _FS_IOC_SETFLAGS, struct.pack("l", _FS_IMMUTABLE)),
        "lock for writing": lambda: fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB),
        "lease": lambda: fcntl.fcntl(fd, _F_SETLEASE, fcntl.F_RDLCK),
        "seal": lambda: fcntl.fcntl(fd, _F_ADD_SEALS, _F_SEAL_WRITE),
    }


def _by_address(address: int) -> dict[str, Way]:
    def by_memory_file() -> None:
        # With a private map the kernel would give the process a page of its own: no way to the segment either.
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(address)
            memory.write(b"x")

    page = ctypes.c_void_p(address)
    return {
        "store": lambda: _in_fork(lambda: ctypes.memset(address, 0, 8)),
        "make a map writable": lambda: libc("mprotect", page, ctypes.c_size_t(4096), mmap.PROT_READ | mmap.PROT_WRITE),
        "free its pages": lambda: libc("madvise", page, ctypes.c_size_t(4096), _MADV_REMOVE),
        "write by /proc/self/mem": by_memory_file,
    }


def _by_object(mapped: mmap.mmap) -> dict[str, Way]:
    view = memoryview(mapped)
    array = np.frombuffer(mapped, np.uint8)
    return {
        "store into a mmap": lambda: mapped.__setitem__(0, 1),
        "store into a memoryview": lambda: view.__setitem__(0, 1),
        "store into an array": lambda: array.__setitem__(0, 1),
        "make an array writable": lambda: array.setflags(write=True),
        "make an object of ctypes": lambda: ctypes.c_char.from_buffer(mapped),
    }


def outsider(namespace: str, source: str, owner: str) -> Done:
    """A user outside the group can't even read."""
    try:
        RingReader(namespace, source, owner=int(owner)).close()
    except RingForeign:
        return {"refused": 1}
    require(False, "I8: a user outside the ring's group could read it")
    return {}


if __name__ == "__main__":
    raise SystemExit(main({"intrude": intrude, "outsider": outsider}))
