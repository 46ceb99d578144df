"""All exceptions that fogmetrics raises, as one tree.

    FogmetricsError
    ├── ConfigurationError      the configuration is wrong: the user has to correct it
    ├── MetricError             a metric, label set or sample is wrong: the caller has to correct it
    └── RingError               one ring has a problem; other rings are not affected
        ├── RingMissing         the segment does not exist, or not yet
        ├── RingForeign         the file is not trusted: wrong owner, file type or permissions
        ├── RingCorrupt         the bytes are not a complete segment of this layout
        │   └── RingLayout      the segment has the layout of another release
        ├── WriterBusy          another process writes to the ring
        ├── RingLost            the ring's files were removed while its writer ran
        ├── WriterClosed        the writer is closed, or this process is a fork of the writer's
        └── NoSpace             there is not enough shared memory

Messages are sentences: the rule, the name and value that break it, the remedy.
"""

from __future__ import annotations


class FogmetricsError(Exception):
    """Base class of all errors; never raised itself."""


class ConfigurationError(FogmetricsError):
    """The configuration breaks rules. ``args``: a message for each mistake, with file, key, value and remedy."""

    def __str__(self) -> str:
        return "\n".join(self.args)


class MetricError(FogmetricsError, ValueError):
    """A metric, a label set or a sample breaks a rule of the data model."""


class RingError(FogmetricsError):
    """A problem of one ring; ``ring`` is its name."""

    def __init__(self, ring: str, message: str) -> None:
        super().__init__(f"ring {ring!r}: {message}")
        self.ring = ring


class RingMissing(RingError):
    """The segment does not exist."""


class RingForeign(RingError):
    """The file is not trusted: it has another owner, is not a regular file, or is not readable."""


class RingCorrupt(RingError):
    """The bytes are not a complete segment of a layout that this release reads."""


class RingLayout(RingCorrupt):
    """The segment has another release's layout, number ``version``; its history is worth keeping."""

    def __init__(self, ring: str, message: str, version: int) -> None:
        super().__init__(ring, message)
        self.version = version


class WriterBusy(RingError):
    """Another process writes to the ring (I5: one writer). ``pid``: that process, 0 if unknown."""

    def __init__(self, ring: str, pid: int) -> None:
        holder = f"process {pid}" if pid else "another process"
        super().__init__(
            ring, f"{holder} already writes to it; stop that process, or give this one another name or namespace"
        )
        self.pid = pid


class RingLost(RingError):
    """The ring's lock file was removed while its writer held it: a second writer may have started (I5)."""


class WriterClosed(RingError):
    """The writer was closed, or this process is a fork of the one that owns it."""


class NoSpace(RingError):
    """A segment could not be built: no memory to reserve (I7), or another user's file in the way. The ring in use is
    unchanged."""
