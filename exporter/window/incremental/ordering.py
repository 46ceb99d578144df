"""Putting samples in order, no further than is asked for, by what is faster on this machine.

numpy's partition puts a rank in its place. Asked for one a call, each in the part above the last, it uses the
processor's wide registers as the sort does; for several in a call it does not. 1,000 rows of 5,760 random samples, ms:

                          sort    five bands of 64, by partitions
    AVX-512, Zen 4         218    152
    AVX2                    34     24
    no wide registers      286    127

For shorter rows it is the other way round on some machines, so :func:`.machine.sorts_faster` measures it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exporter.window.incremental.machine import sorts_faster

Floats = NDArray[np.float64]
Range = tuple[int, int]  # ranks from begin to before end

_SHORT: Final = 128  # samples; up to there sorting is never much slower
_LENGTHS: Final = (256, 512, 1024, 2048, 4096)  # that are tried; a row goes by the last that is not longer


def rank_of(percent: NDArray[np.intp] | int, numbers: NDArray[np.intp]) -> NDArray[np.intp]:
    """The rank ceil(percent / 100 · (n − 1)) of each n of ``numbers``, counted from 0; 0 where there is no number.

    In integers: as floats 0.55 · 100 is above 55, and its ceiling one sample too high.
    """
    return np.asarray(-(-percent * np.maximum(numbers - 1, 0) // 100))


def put_in_order(rows: Floats, ranks: Sequence[Range] | None) -> None:
    """Sort ``rows`` in place, at least so far that each row has in every range of ``ranks`` what sorting puts there.

    ``rows``: float64, shape (series, samples). NaNs go last. None: all of it, as where each row has its own ranks.
    """
    if ranks is None or rows.shape[1] <= _SHORT or sorts_faster(_tried_length(rows.shape[1])):
        rows.sort(axis=1)
    else:
        select(rows, ranks)


def _tried_length(samples: int) -> int:
    return max([_LENGTHS[0], *(one for one in _LENGTHS if one <= samples)])


def select(rows: Floats, ranks: Sequence[Range]) -> None:
    """Put in every range of ``ranks`` what sorting each row would put there, by partitions of one rank each."""
    samples = rows.shape[1]
    done = 0  # everything before is in its place, or at least not above what comes
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
