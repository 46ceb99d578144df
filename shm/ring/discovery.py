"""Which rings exist in a namespace: one listing of /dev/shm, no registry file that could disagree with it."""

from __future__ import annotations

import logging
import os
import pwd
import time
from dataclasses import dataclass, field
from pathlib import Path

from shm.errors import ConfigurationError
from shm.files import DIRECTORY, id_number, ring_name_of
from shm.ring.reader import WriterInfo

log = logging.getLogger(__name__)

# A directory's mtime moves in kernel ticks; a listing is trusted only when it was made this long after the last
# change, so that a second change within the same tick is not missed.
_SETTLED_NS = 100_000_000


def ring_sources(namespace: str, directory: Path = DIRECTORY) -> list[str]:
    """The sources with a published segment in ``namespace``, sorted by name. Nothing is opened."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return _sources(names, namespace)


@dataclass(slots=True)
class Listing:
    """The names in a directory, listed again only after it changed: one stat where nothing did."""

    directory: Path = DIRECTORY
    _names: list[str] = field(default_factory=list)
    _changed_ns: int = -1

    def names(self) -> list[str]:
        """The same list object for as long as nothing changed; the last one where the directory can't be read just now,
        for want of a descriptor."""
        try:
            changed_ns = os.stat(self.directory).st_mtime_ns
            if changed_ns != self._changed_ns:
                self._names = os.listdir(self.directory)
                settled = time.time_ns() - changed_ns > _SETTLED_NS
                self._changed_ns = changed_ns if settled else -1
        except FileNotFoundError:
            return []
        except OSError as error:
            self._changed_ns = -1
            log.debug("directory not listed", extra={"directory": str(self.directory), "error": str(error)})
        return self._names


@dataclass(slots=True)
class RingList:
    """ring_sources() for whoever asks again and again."""

    namespace: str
    directory: Path = DIRECTORY
    _listing: Listing = field(init=False)
    _sources: list[str] = field(default_factory=list)
    _made_from: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._listing = Listing(self.directory)

    def sources(self) -> list[str]:
        names = self._listing.names()
        if names is not self._made_from:
            self._made_from = names
            self._sources = _sources(names, self.namespace)
        return self._sources


def _sources(names: list[str], namespace: str) -> list[str]:
    return sorted(source for name in names if (source := ring_name_of(name, namespace)) is not None)


def user_number(owner: str, where: str = "[shm]", key: str = "owner") -> int:
    """The id of the user of that name or number; our own for the empty name. Raises ConfigurationError.

    ``where``, ``key``: how the message names the table and the key.
    """
    if not owner:
        return os.geteuid()
    number = id_number(f"{where} {key}", owner)
    if number is not None:
        return number
    try:
        return pwd.getpwnam(owner).pw_uid
    except (KeyError, ValueError):  # ValueError: a NUL in it
        raise ConfigurationError(
            f"{where} {key} is {owner!r}, which is no user of this host; name the user that runs the collectors, "
            "or leave the key empty when it is the one that runs the exporter"
        ) from None


def process_fields(pid: int | str) -> list[bytes]:
    """/proc/PID/stat from its third field on, the state (proc(5)). Raises OSError where no such process is."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The second field is the program's name in parentheses, and may hold spaces and parentheses.
        return file.read().rpartition(b")")[2].split()


def start_ticks(pid: int) -> int:
    """When a process started, in clock ticks since boot (proc(5), field 22 of stat); 0 when none lives."""
    try:
        fields = process_fields(pid)
        return 0 if fields[0] in (b"Z", b"X") else int(fields[19])  # dead, though nobody has waited for it
    except (OSError, ValueError, IndexError):
        return 0


def pid_namespace() -> int:
    """The inode of our pid namespace; 0 where /proc does not tell."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0


def writer_alive(writer: WriterInfo, interval_ns: int) -> bool:
    """Whether the ring's writer lives.

    By pid and start time (so that a reused pid does not fool it) where /proc shows us the process, else, from
    another pid namespace or under hidepid, by a heartbeat younger than three intervals.
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
