from __future__ import annotations

import math
from array import array

import numpy as np

from shm.ring.frame import absent, all_absent
from shm.ring.layout import ABSENT, is_absent


def test_the_stale_nan_alone_is_an_absent_sample() -> None:
    values = np.array([0.0, math.nan, -math.nan, math.inf, -1.5])
    assert not absent(values).any()
    assert not any(is_absent(value) for value in values.tolist())
    nothing = all_absent(3)
    assert absent(nothing).all()
    assert all(is_absent(value) for value in nothing)
    assert all(is_absent(value) for value in nothing.tolist())
    assert is_absent(array("d", ABSENT)[0])
