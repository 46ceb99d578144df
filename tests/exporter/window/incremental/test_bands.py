"""Order statistics under change are those of the samples sorted anew."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporter.window.incremental.bands import BAND, Bands
from shm.ring.layout import STALE_NAN_BITS

PERCENTS = (0, 50, 95, 99, 100)
ABSENT = np.array([STALE_NAN_BITS], dtype=np.uint64).view(np.float64)[0]


def expected(samples: NDArray[np.float64]) -> list[list[float]]:
    """By the definition, in plain Python. ``samples``: shape (frames, series)."""
    columns = [sorted(one for one in column if not math.isnan(one)) for column in samples.T.tolist()]
    return [[c[math.ceil(p * (len(c) - 1) / 100)] if c else math.nan for c in columns] for p in PERCENTS]


def filled(samples: NDArray[np.float64]) -> Bands:
    bands = Bands(samples.shape[1], PERCENTS)
    rows = np.sort(samples.T, axis=1)
    bands.fill(slice(0, samples.shape[1]), rows, np.count_nonzero(~np.isnan(samples), axis=0))
    return bands


values = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True),
    st.integers(-2, 2).map(float),  # many of one value
    st.just(float(ABSENT)),
)


@given(st.data(), st.integers(1, 3), st.integers(0, 3 * BAND))
def test_whatever_comes_and_goes(data: st.DataObject, series: int, frames: int) -> None:
    pool = data.draw(st.lists(values, min_size=1, max_size=40))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    window = deque(rng.choice(pool, size=(frames, series)))
    bands = filled(np.array(window).reshape(frames, series))
    going = data.draw(st.sampled_from((0.2, 0.5, 0.8)))
    for _ in range(data.draw(st.integers(0, 2 * BAND))):
        if window and rng.random() < going:
            bands.remove(window.popleft())
        else:
            window.append(rng.choice(pool, size=series))
            bands.insert(window[-1])
        found = bands.ranked()
        if found is None:
            bands = filled(np.array(window).reshape(len(window), series))
            found = bands.ranked()
        assert found is not None, "it was filled just now"
        np.testing.assert_array_equal(found, expected(np.array(window).reshape(len(window), series)))


@pytest.mark.parametrize("direction", [1.0, -1.0])
def test_a_steady_trend_leaves_its_band_after_half_of_it_at_the_earliest(direction: float) -> None:
    frames = 10 * BAND
    samples = direction * np.arange(2.0 * frames)[:, None]
    bands = filled(samples[:frames])
    for i in range(frames):
        bands.insert(samples[frames + i])
        bands.remove(samples[i])
        found = bands.ranked()
        if found is None:
            break
        np.testing.assert_array_equal(found, expected(samples[i + 1 : frames + i + 1]))
    assert BAND // 2 - 1 <= i < frames - 1


def test_samples_that_stand_still_never_leave_it() -> None:
    bands = filled(np.full((10 * BAND, 2), 7.0))
    for _ in range(5 * BAND):
        bands.insert(np.full(2, 7.0))
        bands.remove(np.full(2, 7.0))
    assert bands.ranked() is not None
    np.testing.assert_array_equal(bands.ranked(), np.full((5, 2), 7.0))


def test_a_series_that_begins_has_its_ranks_from_its_first_sample() -> None:
    bands = filled(np.empty((0, 1)))
    assert np.isnan(np.asarray(bands.ranked())).all()
    seen = []
    for value in np.random.default_rng(1).random(BAND):
        seen.append([value])
        bands.insert(np.array([value]))
        np.testing.assert_array_equal(bands.ranked(), expected(np.array(seen)))
