"""Sort rows of samples completely or only at the requested ranks, whichever is faster on this machine.

numpy's partition uses SIMD registers, as sort does, only if a call asks for one rank; so each rank is one call, on the
part above the rank before. 1,000 rows of 5,760 random samples, in ms:

                          sort    five bands of 64, by partitions
    AVX-512, Zen 4         218    152
    AVX2                    34     24
    no wide registers      286    127

For shorter rows sorting is faster on some machines, so :func:`.machine.sorts_faster` measures both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exporter.window.incremental.machine import sorts_faster

Floats = NDArray[np.float64]
Range = tuple[int, int]  # ranks begin ≤ rank < end

_SHORT: Final = 128  # samples; for rows up to this length sorting is never much slower
_LENGTHS: Final = (256, 512, 1024, 2048, 4096)  # measured lengths; a row uses the longest that is not longer


def rank_of(percent: NDArray[np.intp] | int, numbers: NDArray[np.intp]) -> NDArray[np.intp]:
    """The rank ceil(percent / 100 · (n − 1)) for each n of ``numbers``, counted from 0; 0 if n is 0.

    Computed in integers: in floats 0.55 · 100 exceeds 55, and its ceiling would be one sample too high.
    """
    return np.asarray(-(-percent * np.maximum(numbers - 1, 0) // 100))


def put_in_order(rows: Floats, ranks: Sequence[Range] | None) -> None:
    """Sort ``rows`` in place, at least at ``ranks``: each range gets the samples that a full sort puts there.

    ``rows``: float64, shape (series, samples). NaNs go last. ``ranks`` None: sort completely.
    """
    if ranks is None or rows.shape[1] <= _SHORT or sorts_faster(_tried_length(rows.shape[1])):
        rows.sort(axis=1)
    else:
        select(rows, ranks)


def _tried_length(samples: int) -> int:
    return max([_LENGTHS[0], *(one for one in _LENGTHS if one <= samples)])


def select(rows: Floats, ranks: Sequence[Range]) -> None:
    """Sort ``rows`` in place at ``ranks`` only, by partitions of one rank each."""
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
