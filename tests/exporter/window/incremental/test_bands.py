"""Order statistics under change are those of the samples sorted anew."""

from __future__ import annotations

import math
from collections import deque

import numpy as np
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
