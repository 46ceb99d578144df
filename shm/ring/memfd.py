"""Create a memfd of fixed size: private memory that the kernel can copy to and from."""

from __future__ import annotations

import fcntl
import os
from typing import Final

_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def create_memfd(name: str, size: int) -> int:
    """A memfd of ``size`` bytes. It can't be truncated or extended, not even through /proc/PID/fd: loads from its map,
    and stores to pages written before, can't fail. Raises OSError.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd
