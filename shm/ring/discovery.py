"""List /dev/shm, to find rings and tables without a registry file that could disagree with it."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from shm.files import DIRECTORY

log = logging.getLogger(__name__)

# A directory's mtime has the resolution of kernel ticks. A listing is cached only if it was made this long after the
# last change: a second change within the same tick would not move the mtime.
_STABLE_NS = 100_000_000


@dataclass(slots=True)
class Listing:
    """The names in a directory, cached: one stat per call, a new listing only after a change."""

    directory: Path = DIRECTORY
    _names: list[str] = field(default_factory=list)
    _changed_ns: int = -1

    def names(self) -> list[str]:
        """The names: the same list object until the directory changes. If the directory can't be read, as without a
        free descriptor, the previous list."""
        try:
            changed_ns = os.stat(self.directory).st_mtime_ns
            if changed_ns != self._changed_ns:
                self._names = os.listdir(self.directory)
                stable = time.time_ns() - changed_ns > _STABLE_NS
                self._changed_ns = changed_ns if stable else -1
        except FileNotFoundError:
            return []
        except OSError as error:
            self._changed_ns = -1
            log.debug("directory not listed", extra={"directory": str(self.directory), "error": str(error)})
        return self._names
