"""One ring's window, as far as a page needs it: which frames, of what time, and their samples only if asked for.

Which frames are in it is known from their timestamps, without reading them again; who has kept what the others came to
(``rolling``) reads only those that are new.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from exporter.window.parallel import in_parallel
from shm.ring.frame import Frames
from shm.ring.reader import RingReader


class Window:
    """The frames of ``reader`` with since < timestamp ≤ until, at the moment of construction.

    ``whole``: all are proven, and no sequence is missing between the first and the last of them. ``source``: the
    ring's.
    """

    def __init__(self, reader: RingReader, since_ns: int, until_ns: int) -> None:
        self._reader = reader
        self._since_ns, self._until_ns = since_ns, until_ns
        self.source = reader.source
        self.length_ns = until_ns - since_ns
        self._chosen = reader.choose(since_ns, until_ns, in_parallel)
        sequences = self._chosen.sequences
        self.whole = self._chosen.proven and (not len(sequences) or sequences[-1] - sequences[0] + 1 == len(sequences))
        self.first, self.last = (int(sequences[0]), int(sequences[-1])) if len(sequences) else (1, 0)

    @property
    def frame_count(self) -> int:
        """From the first to the last."""
        return self.last - self.first + 1

    @property
    def most_frames(self) -> int:
        """How many it may come to have while the ring fills: one an interval."""
        header = self._reader.header
        return max(self.frame_count, min(header.capacity, self.length_ns // header.interval_ns + 1))

    @functools.cached_property
    def frames(self) -> Frames:
        """All of them, each proven on its copy."""
        return self._reader.read(self._chosen, self._since_ns, self._until_ns, in_parallel)

    def read(self, first: int, last: int) -> Frames | None:
        """Those with first ≤ sequence ≤ last, or None where one of them can't be had whole any more."""
        frames = self._reader.read(self._chosen.between(first, last))
        return frames if len(frames.sequence) == last - first + 1 else None

    @property
    def _was_read(self) -> bool:
        return "frames" in self.__dict__

    @property
    def timestamp_ns(self) -> NDArray[np.int64]:
        """Of each frame that the statistics are of."""
        return self.frames.timestamp_ns if self._was_read or not self.whole else self._chosen.timestamp_ns

    @property
    def skipped(self) -> int:
        """Slots that were torn or lapped when they were read for it."""
        return self.frames.skipped if self._was_read or not self.whole else 0
