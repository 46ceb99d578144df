"""A plan of series that come and go, shared by the collector and its readers, and the proof of frames by it.

Series ``k`` is in the frames from ``begins`` until before ``ends`` (a gauge in three of four of them, so that it is
also absent in between), and its sample in frame ``s`` is ``k × 8192 + s``. So a reader can prove whose each sample is
and of which frame, and that no sample of a frame is lost. The samples are exact as float64.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from shm.metric import Metric, Series
from shm.ring.frame import absent
from shm.ring.reader import Frame, Frames
from tests.rings import SECOND_NS
from tests.siege.harness import require

STRIDE = 8192  # more than a run has frames
STARTED_NS = 1_700_000_000 * SECOND_NS

GAUGE = Metric("churn_gauge", "gauge", "A series that comes and goes.", "", ("k",))
COUNTER = Metric("churn_counter", "counter", "A series that comes and goes.", "", ("k",))
HISTOGRAM = Metric("churn_histogram", "histogram", "A series that comes and goes.", "", ("k",), (float(STRIDE), 1e12))
METRICS = (GAUGE, COUNTER, HISTOGRAM)
_KINDS = (GAUGE, GAUGE, COUNTER, GAUGE, HISTOGRAM)  # of series k: by k modulo their number


@dataclass(frozen=True)
class Plan:
    """``series`` of them over ``frames`` frames, ``interval_seconds`` apart, in a ring of ``capacity``."""

    GIVEN: ClassVar = ("seed", "series", "frames", "capacity", "interval_seconds")  # all else follows from these

    seed: int
    series: int
    frames: int
    capacity: int
    interval_seconds: int
    begins: NDArray[np.int64] = field(init=False)
    ends: NDArray[np.int64] = field(init=False)
    # Columns of the series that are in any frame of a full ring and the next one: what a ring must have room for.
    most_columns: int = field(init=False)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        begins = [1 + k * self.frames // self.series for k in range(self.series)]
        # Some live for a frame or two, some for longer than the ring holds.
        lives = [chance.choice((1, 2, self.capacity // 4, self.capacity // 2, 2 * self.capacity)) for _ in begins]
        first, end = np.array(begins), np.array(begins) + np.maximum(lives, 1)
        columns = np.array([self.metric(k).columns for k in range(self.series)])
        most = max(int(columns[(first <= s) & (end > s - self.capacity - 1)].sum()) for s in range(1, self.frames + 1))
        for name, found in (("begins", first), ("ends", end), ("most_columns", most)):
            object.__setattr__(self, name, found)

    def metric(self, k: int) -> Metric:
        return _KINDS[k % len(_KINDS)]

    def labels(self, k: int) -> dict[str, str]:
        """The number of the series, with so many zeros in some that the catalog must grow as well."""
        return {"k": str(k).zfill(400 if k % 3 == 0 else 1)}

    def present(self, series: NDArray[np.int64], sequences: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether those series have a sample in those frames: shape (frames, series)."""
        k, s = series[np.newaxis, :], sequences[:, np.newaxis]
        lives: NDArray[np.bool_] = (self.begins[k] <= s) & (s < self.ends[k])
        # The first is always there; histograms and counters are in every frame of their lives.
        found: NDArray[np.bool_] = lives & (
            (s == self.begins[k]) | ((k + s) % 4 != 3) | np.isin(k % len(_KINDS), (2, 4))
        )
        return found

    def of_frame(self, sequence: int) -> list[int]:
        """The series with a sample in that frame."""
        everyone = np.arange(self.series)
        found: list[int] = np.flatnonzero(self.present(everyone, np.array([sequence]))[0]).tolist()
        return found

    def timestamp_ns(self, sequence: int) -> int:
        return STARTED_NS + sequence * self.interval_seconds * SECOND_NS


def value(k: int, sequence: int) -> float:
    return float(k * STRIDE + sequence)


def prove_frames(plan: Plan, frames: Frames, series: Sequence[Series], where: str) -> int:
    """Every sample of the frames is its series' own, and none is lost; the number of samples."""
    sequences = frames.sequence.astype(np.int64)
    stamps = STARTED_NS + sequences * plan.interval_seconds * SECOND_NS
    require((frames.timestamp_ns == stamps).all(), f"{where}: a frame has another frame's timestamp")
    mine = [one for one in series if one.metric in METRICS]
    numbers = np.array([int(one.label_values[0]) for one in mine], dtype=np.int64)
    columns = np.array([one.column for one in mine], dtype=np.intp)
    require(len(set(numbers.tolist())) == len(numbers), f"{where}: a series has two columns")
    if not len(numbers) or not len(sequences):
        return 0
    values = frames.values[:, columns]
    here, wanted = ~absent(np.ascontiguousarray(values)), plan.present(numbers, sequences)
    right = numbers[np.newaxis, :] * STRIDE + sequences[:, np.newaxis]
    _none(here & (values != right), numbers, sequences, values, f"{where}: a sample is credited to another series")
    _none(here & ~wanted, numbers, sequences, values, f"{where}: a sample is there that was not recorded")
    _none(wanted & ~here, numbers, sequences, values, f"{where}: a sample is lost")
    # Series that the catalog does not know at all would not show above.
    everyone = plan.present(np.arange(plan.series), sequences).sum(axis=1)
    short = np.flatnonzero(everyone != wanted.sum(axis=1))
    require(
        not len(short), f"{where}: a sample is lost: the catalog has not all series of frame {sequences[short[:1]]}"
    )
    for one, k in zip(mine, numbers.tolist(), strict=True):
        if one.metric.type == "histogram":
            _prove_buckets(plan, frames, one, k, where)
    return int(wanted.sum())


def prove_count(plan: Plan, frame: Frame, series: Sequence[Series], where: str) -> None:
    """The columns that the frame counts have no series that is younger than the frame."""
    for one in series:
        if one.metric in METRICS and plan.begins[int(one.label_values[0])] > frame.sequence:
            require(
                one.column >= frame.count,
                f"{where}: frame {frame.sequence} counts a column of series {one.label_values[0]}, which is younger",
            )


def _none(bad: NDArray[np.bool_], numbers: NDArray[np.int64], sequences: NDArray[np.int64],
          values: NDArray[np.float64], said: str) -> None:  # fmt: skip
    if bad.any():
        row, column = np.argwhere(bad)[0]
        found = values[row, column]
        require(False, f"{said}: series {numbers[column]}, frame {sequences[row]}, the value {found!r}")


def _prove_buckets(plan: Plan, frames: Frames, series: Series, k: int, where: str) -> None:
    """Count and sum are of the series' own samples, from its first frame on."""
    sequences = frames.sequence.astype(np.int64)
    rows = plan.present(np.array([k]), sequences)[:, 0]
    counts = sequences[rows] - plan.begins[k] + 1
    sums = counts * (k * STRIDE) + counts * (plan.begins[k] + sequences[rows]) // 2
    found = frames.values[rows, series.column + 1 : series.end]
    right = np.stack((0 * counts, counts, counts, sums), axis=1)  # the first bound is below every sample
    if not (found == right).all():
        require(False, f"{where}: the buckets of series {k} have others' samples: {found[:1]} for {right[:1]}")
