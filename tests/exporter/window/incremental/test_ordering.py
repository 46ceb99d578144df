"""What is put in order is, in long rows and in short ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.window.incremental import ordering
from exporter.window.incremental.ordering import put_in_order


@pytest.mark.parametrize("short", [0, 1024])
@given(
    st.lists(st.floats(allow_nan=False) | st.integers(-2, 2).map(float), min_size=1, max_size=200),
    st.lists(st.tuples(st.integers(0, 200), st.integers(0, 30)), max_size=4),
)
def test_at_the_ranks_is_what_sorting_puts_there(
    short: int, samples: list[float], wanted: list[tuple[int, int]]
) -> None:
    rows = np.array([samples, samples[::-1]])
    ranks = [(min(at, len(samples)), min(at + size, len(samples))) for at, size in wanted]
    right = np.sort(rows, axis=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ordering, "_SHORT", short)
        put_in_order(rows, ranks)
    for begin, end in ranks:
        np.testing.assert_array_equal(rows[:, begin:end], right[:, begin:end])
    np.testing.assert_array_equal(np.sort(rows, axis=1), right, err_msg="no sample is lost")
