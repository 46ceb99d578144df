"""List /dev/shm, to find rings and tables without a registry file that could disagree with it.

Any user may create files in /dev/shm. So the owner of a file is looked at before the file is opened, files of users
that are not trusted are only counted, and listings are bounded: where the directory has more files than one listing
reads, the next listing goes on with the others, so that no file stays hidden behind files of others.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from shm.files import DIRECTORY, file_start
from shm.safe_repr import shown

log = logging.getLogger(__name__)

# A directory's mtime has the resolution of kernel ticks. A listing is cached only if it was made this long after the
# last change: a second change within the same tick would not move the mtime.
_STABLE_NS = 100_000_000
# The most names of one listing but the first, some 10 ms. A host with 4,000 processes of applications has half as many.
MOST_NAMES: Final = 10_000
_LOOKS_AGAIN: Final = 64  # files of untrusted users whose owner is looked at again per call: chown moves no mtime


@dataclass(slots=True)
class Listing:
    """The names in a directory that begin with ``start``, with their inodes, cached: one stat per call, a new listing
    only after a change.

    ``partial``: the directory has more than MOST_NAMES files, and these are the names among the last that were read.
    """

    directory: Path = DIRECTORY
    start: str = ""
    partial: bool = False
    _names: dict[str, int] = field(default_factory=dict)
    _changed_ns: int = -1
    _unread: Any = None  # an iterator of os.scandir()
    _listed: bool = False

    def names(self) -> dict[str, int]:
        """The same dictionary until the directory changes. If the directory can't be read, as without a free
        descriptor, the previous names.

        The first call reads the whole directory. Later ones read MOST_NAMES files each, and go on where the call before
        ended.
        """
        try:
            changed_ns = os.stat(self.directory).st_mtime_ns
            if self._unread is None and changed_ns == self._changed_ns:
                return self._names
            if self._unread is None:
                stable = time.time_ns() - changed_ns > _STABLE_NS
                self._changed_ns = changed_ns if stable else -1
            self._names = self._read()
            self._listed = True
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._changed_ns = -1
            log.debug("directory not listed", extra={"directory": str(self.directory), "error": str(error)})
        return self._names

    def _read(self) -> dict[str, int]:
        begun, self._unread = self._unread, None
        entries = begun or os.scandir(self.directory)
        found, read = dict[str, int](), 0
        for entry in itertools.islice(entries, MOST_NAMES if self._listed else None):
            read += 1
            if entry.name.startswith(self.start):
                found[entry.name] = entry.inode()
        if self._listed and read == MOST_NAMES:
            self._unread = entries
        self.partial = begun is not None or self._unread is not None
        return found

    def close(self) -> None:
        """Close the directory, if it is being read; a later call begins again."""
        if self._unread is not None:
            self._unread.close()
            self._unread = None


class TrustedFiles:
    """The files of a namespace with an ending, such as ".ring", that belong to ``owners``, user ids.

    ``foreign``: the files of other users, by name, with their owners; MOST_NAMES at most. The owner of each file is
    looked at once. A file that was found stays in :meth:`names` until it is gone, even if a listing does not reach it.
    """

    def __init__(self, namespace: str, ending: str, owners: Collection[int], directory: Path = DIRECTORY) -> None:
        self.foreign: dict[str, int] = {}
        self._start, self._ending = file_start(namespace), ending
        self._owners = owners
        self._directory = directory
        self._listing = Listing(directory, self._start)
        self._listed: dict[str, int] | None = None
        self._inodes: dict[str, int] = {}  # of the files whose owner is known
        self._trusted: list[str] = []

    def names(self) -> list[str]:
        """The names of the trusted files, sorted: the same list object until one comes or goes."""
        listed = self._listing.names()
        if listed is not self._listed:
            self._listed = listed
            found = {name: inode for name, inode in listed.items() if name.endswith(self._ending)}
            if not self._listing.partial:
                self.foreign = {name: owner for name, owner in self.foreign.items() if name in found}
            known = found.items() & self._inodes.items()
            self._look([name for name in {*found, *self._trusted} if (name, found.get(name)) not in known])
            self._inodes = found
        if self.foreign:
            self._look(list(itertools.islice(self.foreign, _LOOKS_AGAIN)))
        return self._trusted

    def close(self) -> None:
        self._listing.close()

    def _look(self, names: Iterable[str]) -> None:
        """Find out whether these files are trusted, foreign or gone."""
        trusted = {*self._trusted}.difference(names)
        for name in names:
            owner = owner_of(f"{self._directory}/{name}")
            self.foreign.pop(name, None)
            if owner in self._owners:
                trusted.add(name)
            elif owner is not None and len(self.foreign) < MOST_NAMES:
                self.foreign[name] = owner
        if trusted != {*self._trusted}:
            self._trusted = sorted(trusted)


def owner_of(path: str) -> int | None:
    """The user id that owns the file, or the link; None if there is no file."""
    try:
        return os.stat(path, follow_symlinks=False).st_uid
    except OSError:
        return None


def owned(names: Iterable[str], owners: Collection[int]) -> list[str]:
    """Those of the files in /dev/shm that belong to ``owners``, user ids."""
    return [name for name in names if owner_of(f"{DIRECTORY}/{name}") in owners]


def foreign_files(*kinds: TrustedFiles) -> str:
    """A sentence about the files of users that are not trusted; empty if there are none."""
    found = {name: owner for files in kinds for name, owner in files.foreign.items()}
    if not found:
        return ""
    name, owner = min(found.items())
    return (
        f"{len(found)} {'file' if len(found) == 1 else 'files'} of this namespace in {DIRECTORY} left out, such as "
        f"{shown(name)} of user {owner}: these users are not trusted; name them as [shm] owner or in "
        "[applications] users, or remove the files"
    )
