"""Frames that prove themselves, by the hundred: what a writer stores under a sequence, and whether what was read is it.

Every word of a frame is told by its sequence: the value of a column is ``sequence × 4096 + column``, exact in a float64
up to 2⁴¹ frames, and no two frames share a value. So whatever is not the frame shows which frame it is of.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shm.ring.frame import Frame, Frames
from shm.ring.layout import STALE_NAN_BITS
from tests.siege.harness import require

COLUMN_NUMBERS = 4096
_BATCH_BYTES = 1 << 16
STEP_NS = 1_000_003  # odd, so that no word of the timestamps repeats early


def timestamp_ns(sequence: int) -> int:
    return sequence * STEP_NS


def flags(sequence: int) -> int:
    return sequence & 3


class Proof:
    """Of rows with that many columns. The rest of a row, up to its width, is absent."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.batch = max(_BATCH_BYTES // (8 * columns), 1)  # how many frames to check at once: within a cache
        self._column = np.arange(columns, dtype=np.float64)

    def put(self, sequence: int, row: NDArray[np.float64]) -> None:
        """Make ``row``, shape (columns,), the values of that frame."""
        np.add(self._column, float(sequence * COLUMN_NUMBERS), out=row)

    def check_frames(self, frames: Sequence[Frame], asked: Sequence[int], how: str) -> None:
        """Violation unless each is, word by word, the frame of the sequence that was asked for."""
        if not frames:
            return
        words = np.array(
            [(one.sequence, one.timestamp_ns, one.monotonic_ns, one.count, one.flags) for one in frames], dtype=np.int64
        )
        self._check_word("sequence", words[:, 0], np.array(asked), words[:, 0], how)
        self._check_word("count", words[:, 3], np.full(len(frames), self.columns), words[:, 0], how)
        values = np.frombuffer(b"".join([one.values for one in frames]), dtype=np.float64).reshape(len(frames), -1)
        self._check(words[:, 0], words[:, 1], words[:, 2], words[:, 4], values, how)

    def check_window(self, window: Frames, how: str) -> None:
        """The same for a window. Its sequences rise."""
        sequence = window.sequence.view(np.int64)
        require(bool((np.diff(sequence) > 0).all()), f"I1: {how}: sequences do not rise: {sequence.tolist()}")
        self._check(sequence, window.timestamp_ns, window.monotonic_ns, window.flags.view(np.int64), window.values, how)

    def _check(
        self, sequence: NDArray[np.int64], stamps: NDArray[np.int64], monotonic: NDArray[np.int64],
        given_flags: NDArray[np.int64], values: NDArray[np.float64], how: str,
    ) -> None:  # fmt: skip
        self._check_word("timestamp", stamps, sequence * STEP_NS, sequence, how)
        self._check_word("monotonic", monotonic, sequence, sequence, how)
        self._check_word("flags", given_flags, sequence & 3, sequence, how)
        wanted = self._column + (sequence * COLUMN_NUMBERS).astype(np.float64)[:, None]
        right = values[:, : self.columns] == wanted
        if not right.all():
            row, column = np.argwhere(~right)[0].tolist()
            value = values[row, column].item()
            require(
                False,
                f"I1: {how}: frame {sequence[row]} of {self.columns} columns was accepted with {value!r} in column "
                f"{column}, that of frame {(value - column) / COLUMN_NUMBERS:g}",
            )
        rest = values[:, self.columns :].view(np.uint64)
        require(bool((rest == STALE_NAN_BITS).all()), f"I1: {how}: a column that no series has is not absent")

    def _check_word(
        self, word: str, given: NDArray[np.int64], wanted: NDArray[np.int64], sequence: NDArray[np.int64], how: str
    ) -> None:
        right = given == wanted
        if not right.all():
            row = int(np.flatnonzero(~right)[0])
            require(
                False,
                f"I1: {how}: frame {sequence[row]} of {self.columns} columns was accepted with {word} {given[row]}, "
                f"not {wanted[row]}",
            )
