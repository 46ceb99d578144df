"""Every error of fogmetrics that a caller may want to tell apart.

    FogmetricsError
    ├── ConfigurationError      the configuration is wrong: the user's to mend
    ├── MetricError             a metric, label set or sample is wrong: the caller's to mend
    └── RingError               one ring; the others are not concerned
        ├── RingMissing         no such segment, or not yet
        ├── RingForeign         not a segment that we may trust: owner, kind of file, permissions
        ├── RingCorrupt         the bytes are not a whole segment of this layout
        │   └── RingLayout      they may be one of another layout: of another release
        ├── WriterBusy          another process writes to it
        ├── RingLost            its files were removed under its writer
        ├── WriterClosed        this writer is closed, or belongs to the process we were forked from
        └── NoSpace             the shared memory to hold it is not there

Messages are sentences: the rule, the name and value that break it, the next step.
"""

from __future__ import annotations


class FogmetricsError(Exception):
    """Base of all; never raised itself."""


class ConfigurationError(FogmetricsError):
    """The configuration breaks a rule. The message names file, key, value and remedy."""


class MetricError(FogmetricsError, ValueError):
    """A metric, a label set or a sample breaks a rule of the data model."""


class RingError(FogmetricsError):
    """Trouble with one ring, which ``ring`` names."""

    def __init__(self, ring: str, message: str) -> None:
        super().__init__(f"ring {ring!r}: {message}")
        self.ring = ring


class RingMissing(RingError):
    """There is no segment of that name."""


class RingForeign(RingError):
    """The file is not ours to trust: another owner, not a regular file, not readable."""


class RingCorrupt(RingError):
    """The bytes do not make a whole segment of a layout that this version reads."""


class RingLayout(RingCorrupt):
    """The segment is of another layout, which ``version`` numbers: of another release, and worth keeping."""

    def __init__(self, ring: str, message: str, version: int) -> None:
        super().__init__(ring, message)
        self.version = version


class WriterBusy(RingError):
    """Invariant I5: one writer at a time. ``pid`` is the holder's, 0 where it could not be read."""

    def __init__(self, ring: str, pid: int) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            ring, f"{holder} already writes to it; stop that process, or give this one another name or namespace"
        )
        self.pid = pid


class RingLost(RingError):
    """The lock of a ring was removed while its writer held it: another may have begun beside it (I5)."""


class WriterClosed(RingError):
    """The writer was closed, or this process is a fork of the one that owns it."""


class NoSpace(RingError):
    """Invariant I7: the segment's memory could not be reserved. The ring in use is untouched."""
