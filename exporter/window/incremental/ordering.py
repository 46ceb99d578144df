"""Sort rows of samples completely, or long rows only at the requested ranks.

numpy's partition uses SIMD registers, as sort does, only if a call asks for one rank; so each rank is one call, on the
part above the rank before. 262,144 random samples in rows of so many,
and five bands of 64, in ms:

                          240      1,024    2,880    5,760
    AVX2       sort       1.1      1.3      1.5      1.5
               select     2.2      1.4      1.2      1.1
    no wide    sort       9.0      12.5     11.9     12.9
    registers  select     13.0     7.1      6.0      5.7
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Range = tuple[int, int]  # ranks begin ≤ rank < end

_SHORT: Final = 1024  # samples; up to this length sorting is not slower on processors with wide registers


def rank_of(percent: NDArray[np.intp] | int, numbers: NDArray[np.intp]) -> NDArray[np.intp]:
    """The rank ceil(percent / 100 · (n − 1)) for each n of ``numbers``, counted from 0; 0 if n is 0.

    Computed in integers: in floats 0.55 · 100 exceeds 55, and its ceiling would be one sample too high.
    """
    return np.asarray(-(-percent * np.maximum(numbers - 1, 0) // 100))


def put_in_order(rows: Floats, ranks: Sequence[Range] | None) -> None:
    """Sort ``rows`` in place, at least at ``ranks``: each range gets the samples that a full sort puts there.

    ``rows``: float64, shape (series, samples). NaNs go last. ``ranks`` None: sort completely.
    """
    if ranks is None or rows.shape[1] <= _SHORT:
        rows.sort(axis=1)
        return
    samples = rows.shape[1]
    done = 0  # no sample before this rank is greater than one at or after it
    for begin, end in sorted(ranks):
        begin = max(begin, done)
        if begin >= end:
            continue
        if begin > done:
            rows[:, done:].partition(begin - done, axis=1)
        if end < samples:
            rows[:, begin:].partition(end - begin, axis=1)
        if end - begin > 1:
            rows[:, begin:end].sort(axis=1)
        done = end
