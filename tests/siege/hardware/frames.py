"""Frames that prove themselves: every word is a function of the sequence, so that a mixture of two frames shows.

The values are 64 bits of any pattern, NaNs of all kinds among them, because two machines may treat those as unlike as
bytes in another order. This module imports numpy and shm alone, so that the userlands of ``emulated`` can run it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shm.metric import Metric
from shm.ring.frame import Frame, Frames
from shm.ring.writer import RingWriter
from tests.siege.violation import require

ABSENT_BITS: Final = 0x7FF0_0000_0000_0002  # as docs/protocol.md has it, not as the code does
_ODD, _ODDER = 0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F  # odd: no two sequences give a column the same value
_MASK: Final = (1 << 64) - 1
_LISTED: Final = 128  # rows up to that width are also appended as lists of floats
_HISTOGRAM: Final = 67  # columns of a histogram with the most buckets that there may be


def timestamp_ns(sequence: int) -> int:
    """Odd, so that no word of the timestamps repeats early."""
    return sequence * 1_000_003


class Rows:
    """The rows of a ring of that many columns."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self._of_column = np.arange(columns, dtype=np.uint64) * np.uint64(_ODDER)

    def present(self, sequence: int) -> int:
        """How many columns have a sample in that row; the rest is absent in every fourth."""
        return self.columns * 3 // 4 if sequence % 4 == 0 else self.columns

    def bits(self, sequence: int) -> NDArray[np.uint64]:
        row = self._of_column ^ np.uint64(sequence * _ODD & _MASK)
        row[self.present(sequence) :] = ABSENT_BITS
        return row

    def append(self, writer: RingWriter) -> None:
        sequence = writer.head + 1
        row = self.bits(sequence)[: self.present(sequence)].view(np.float64)
        values = row.tolist() if self.columns <= _LISTED and sequence % 3 == 0 else memoryview(row.data)
        writer.append(values, timestamp_ns(sequence), sequence, sequence % 4)

    def check(self, frame: Frame, asked: int) -> None:
        """Raise Violation unless ``frame`` is, word by word, the frame of the sequence ``asked``."""
        require(frame.sequence == asked, f"I1: frame(): frame {frame.sequence} was accepted for {asked}")
        require(frame.count == self.columns, f"I1: frame(): frame {asked} has the count {frame.count}")
        words = frame.timestamp_ns, frame.monotonic_ns, frame.flags
        self._check("frame()", asked, words, np.frombuffer(frame.values.cast("B"), np.uint64))

    def check_window(self, window: Frames) -> None:
        """The same for each frame of a window."""
        sequences = window.sequence.tolist()
        require(sequences == sorted(set(sequences)), f"I1: frames(): sequences do not rise: {sequences}")
        bits = window.values.view(np.uint64)
        for i, sequence in enumerate(sequences):
            words = int(window.timestamp_ns[i]), int(window.monotonic_ns[i]), int(window.flags[i])
            self._check("frames()", sequence, words, bits[i])

    def _check(self, method: str, sequence: int, words: tuple[int, int, int], bits: NDArray[np.uint64]) -> None:
        due = timestamp_ns(sequence), sequence, sequence % 4
        require(words == due, f"I1: {method}: frame {sequence} was accepted with {words}, and {due} was appended")
        row = self.bits(sequence)
        unlike = np.flatnonzero(bits[: self.columns] != row)
        if len(unlike):
            column = int(unlike[0])
            require(
                False,
                f"I1: {method}: frame {sequence} was accepted with {int(bits[column]):#x} in column {column} of "
                f"{self.columns}, and {int(row[column]):#x} was appended",
            )
        require(
            bool((bits[self.columns :] == ABSENT_BITS).all()),
            f"I1: {method}: a column that no series has is not absent",
        )


def metrics_of(columns: int) -> list[Metric]:
    """Metrics of one series each that have so many columns in all; histograms, which have many columns each."""
    metrics: list[Metric] = []
    while columns > 0:
        taken = min(columns, _HISTOGRAM) if columns > 3 else 1
        name, bounds = f"metric_{len(metrics)}", tuple((i + 1) / 3 for i in range(taken - 3))
        metrics.append(Metric(name, "histogram" if bounds else "gauge", "Proves itself: µ.", "", ("n",), bounds))
        columns -= taken
    return metrics
