"""Frames as readers return them: one proven frame, or a window of frames as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shm.ring.layout import MAX_SEQUENCE, SLOT_HEADER, SLOT_HEADER_BYTES, SLOT_PAYLOAD, STALE_NAN_BITS, is_absent
from shm.ring.protocol import frame_seal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def absent(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """:func:`shm.ring.layout.is_absent` of each value: float64 in, bool of the same shape out."""
    found: NDArray[np.bool_] = values.view("u8") == STALE_NAN_BITS
    return found


def all_absent(shape: int | tuple[int, int]) -> NDArray[np.float64]:
    """A new array in which every sample is absent. Filled as integers: arithmetic would change the NaN's bits."""
    import numpy as np  # only for readers that ask for arrays

    return np.full(shape, STALE_NAN_BITS, dtype=np.uint64).view(np.float64)


@dataclass(slots=True)  # not frozen: creating a frozen one takes a sixth of the time of a read
class Frame:
    """One proven frame. ``values``: float64, shape (width,); columns at or beyond ``count`` are absent."""

    sequence: int
    timestamp_ns: int
    monotonic_ns: int
    count: int
    flags: int
    values: memoryview[float]

    def value(self, column: int) -> float | None:
        """The sample in that column, None where it is absent."""
        if column >= self.count or is_absent(value := self.values[column]):
            return None
        return value


@dataclass(frozen=True, slots=True)
class Frames:
    """Proven frames in sequence order.

    sequence u64, timestamp_ns i64, monotonic_ns i64, flags u64: shape (frames,). values: float64, shape
    (frames, width), columns in catalog order, absent = STALE_NAN. ``skipped``: slots of the range that were torn
    or lapped while they were copied.
    """

    sequence: NDArray[np.uint64]
    timestamp_ns: NDArray[np.int64]
    monotonic_ns: NDArray[np.int64]
    flags: NDArray[np.uint64]
    values: NDArray[np.float64]
    skipped: int


def prove(copy: bytes | memoryview, sequence: int, salt: int) -> Frame | None:
    """The frame of that sequence if the seal in the slot's ``copy`` holds (R3), else None.

    None too for a short copy, as of a file that was cut.
    """
    if len(copy) < SLOT_HEADER_BYTES:
        return None
    found, seal, timestamp_ns, monotonic_ns, count, flags = SLOT_HEADER.unpack_from(copy)
    if found > MAX_SEQUENCE:
        return None  # forged: no writer gets that far
    view = memoryview(copy)
    if found != sequence or frame_seal(view[SLOT_PAYLOAD:], sequence, salt) != seal:
        return None
    return Frame(sequence, timestamp_ns, monotonic_ns, count, flags, view[SLOT_HEADER_BYTES:].cast("d"))
