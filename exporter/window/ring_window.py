"""Windows of rings. A :class:`Window` is lazy: it selects frames by timestamp, and copies their samples only on demand.

Incremental statistics (``rolling``) need only the samples of the frames that are new.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from exporter.rings import Ring, RingSet
from exporter.window.parallel import in_parallel
from shm.ring.frame import Frames
from shm.ring.reader import RingReader

V = TypeVar("V")


class Window:
    """The frames of ``reader`` with since < timestamp ≤ until, at the moment of construction.

    ``repairs``: if it differs between two windows, frames of the earlier one may be lost in the later one.
    ``whole``: all frames are proven, and no sequence is missing between the first and the last of them.
    """

    def __init__(self, reader: RingReader, since_ns: int, until_ns: int) -> None:
        self._reader = reader
        self._since_ns, self._until_ns = since_ns, until_ns
        self.source = reader.source
        self.length_ns = until_ns - since_ns
        self.interval_ns = reader.header.interval_ns
        self._chosen = reader.choose(since_ns, until_ns, in_parallel)
        self.repairs = reader.repairs
        sequences = self._chosen.sequences
        self.whole = self._chosen.proven and (not len(sequences) or sequences[-1] - sequences[0] + 1 == len(sequences))
        self.first, self.last = (int(sequences[0]), int(sequences[-1])) if len(sequences) else (1, 0)

    @property
    def frame_count(self) -> int:
        """The number of sequences from the first frame to the last."""
        return self.last - self.first + 1

    @property
    def most_frames(self) -> int:
        """The largest number of frames that a window of this length may get as the ring fills: one per interval."""
        return max(self.frame_count, min(self._reader.header.capacity, self.length_ns // self.interval_ns + 1))

    @functools.cached_property
    def frames(self) -> Frames:
        """All frames of the window, each copied and proven on the copy."""
        return self._reader.read(self._chosen, self._since_ns, self._until_ns, in_parallel)

    def read(self, first: int, last: int) -> Frames | None:
        """The frames with first ≤ sequence ≤ last, or None if one of them is torn or lapped."""
        frames = self._reader.read(self._chosen.between(first, last))
        return frames if len(frames.sequence) == last - first + 1 else None

    @property
    def _was_read(self) -> bool:
        return "frames" in self.__dict__

    @property
    def timestamp_ns(self) -> NDArray[np.int64]:
        """The timestamps of the frames that the statistics use."""
        return self.frames.timestamp_ns if self._was_read or not self.whole else self._chosen.timestamp_ns

    @property
    def skipped(self) -> int:
        """The number of slots that were torn or lapped when the window was read."""
        return self.frames.skipped if self._was_read or not self.whole else 0


class Windows:
    """The windows of a request, all of one length. A ring that can't be read costs only its own series.

    ``found``: the windows that could be read, by the ring's index in ``listed``.
    """

    def __init__(
        self, rings: RingSet, listed: Sequence[Ring], indexes: Iterable[int], since_ns: int, until_ns: int
    ) -> None:
        """``rings``: records the errors of reading. ``indexes``: of the rings in ``listed`` to read."""
        self._rings = rings
        self.length_ns = until_ns - since_ns
        self.found: dict[int, Window] = {}
        for index in sorted(indexes):
            ring = listed[index]
            window = self._guarded(ring.source, functools.partial(Window, ring.reader, since_ns, until_ns))
            if window is not None:
                self.found[index] = window

    def read(self, index: int, read: Callable[[Window], V]) -> V | None:
        """``read`` of a ring's window; None if the ring can't be read, now or before."""
        window = self.found.get(index)
        if window is None:
            return None
        result = self._guarded(window.source, lambda: read(window))
        if result is None:
            del self.found[index]
        return result

    def _guarded(self, source: str, read: Callable[[], V]) -> V | None:
        try:
            return read()
        except Exception as error:  # noqa: BLE001 - a ring's bytes are untrusted input
            self._rings.fail(source, error)
            return None
