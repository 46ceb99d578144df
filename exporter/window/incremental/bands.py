"""Order statistics of many series that stay exact while samples come and go.

Of each series' samples in order, a band of BAND around each rank that is asked for is kept, and how many lie below:

    below: 2,832 samples │ 41.2 41.3 41.3 … 41.9 … 42.0 │ above: the rest
                           └ the band, sorted; the median is in it

A sample that comes or goes below the band, or above it, only moves the counts: two comparisons for each series and
rank. One that falls into the band is put in, or taken out. When a rank has left its band, which takes BAND / 2 changes
at least from where a fill puts it, the bands have to be filled anew from all samples. So nothing is estimated: what
:meth:`Bands.ranked` gives is an element of the sorted samples, or nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from exporter.window.incremental.ordering import rank_of

Floats = NDArray[np.float64]
Integers = NDArray[np.intp]

BAND: Final = 64  # samples; 2.5 KiB a series with five ranks
_PAD: Final = np.inf


class Bands:
    """For ``series`` series and the ranks ceil(p / 100 · (n − 1)) for each p of ``percents``; 0 is the least sample.

    n is the number of a series' samples that are numbers; NaNs of both kinds are passed over.
    """

    def __init__(self, series: int, percents: Sequence[int]) -> None:
        self._percents = np.array(percents, dtype=np.intp)[:, None]
        shape = len(percents), series
        self.numbers: Integers = np.zeros(series, dtype=np.intp)
        self._band: Floats = np.full((*shape, BAND), _PAD)
        self._count: Integers = np.zeros(shape, dtype=np.intp)  # samples in the band
        self._below: Integers = np.zeros(shape, dtype=np.intp)
        self._low: Floats = np.full(shape, np.inf)  # the band's first and last sample; of an empty one, nothing fits
        self._high: Floats = np.full(shape, -np.inf)
        self._broken = False

    def places(self, numbers: int) -> list[tuple[int, int]]:
        """Where fill() looks in series that have that many numbers: [begin, end) of their order, for each rank."""
        below, count = self._place(np.array([numbers]))
        return [(int(b), int(b + c)) for b, c in zip(below[:, 0], count[:, 0], strict=True)]

    def _place(self, numbers: Integers) -> tuple[Integers, Integers]:
        """(samples below the band, samples in it), each of shape (percents, series)."""
        below = np.clip(rank_of(self._percents, numbers) - BAND // 2, 0, np.maximum(numbers - BAND, 0))
        return below, np.minimum(numbers - below, BAND)

    def fill(self, some: slice, ordered: Floats, numbers: Integers) -> None:
        """Begin anew with the series ``some``. ``ordered``: shape (series, samples), sorted at :meth:`places`.

        NaNs are last. Different series may be filled by different threads.
        """
        self.numbers[some] = numbers
        below, count = self._place(numbers)
        if len(numbers) and (numbers == numbers[0]).all() and count[0, 0] == BAND:
            # Most often: the bands of all of them are in the same places.
            band = np.stack([ordered[:, begin : begin + BAND] for begin in below[:, 0]])
        else:
            at = np.minimum(below[..., None] + np.arange(BAND), max(ordered.shape[1] - 1, 0))
            band = np.take_along_axis(ordered[None], at, axis=2) if ordered.size else np.full(at.shape, _PAD)
            band[np.arange(BAND) >= count[..., None]] = _PAD
        self._band[:, some], self._below[:, some], self._count[:, some] = band, below, count
        self._low[:, some], self._high[:, some] = _ends(band, count)

    def insert(self, sample: Floats) -> None:
        """One more sample of each series: float64, shape (series,)."""
        number = ~np.isnan(sample)
        above = self.numbers - self._below - self._count
        # Next to a side that is empty the band's neighbours are known, and it may grow there.
        under = number & (sample < self._low) & (self._below > 0)
        over = number & (sample > self._high) & (above > 0)
        self._below += under
        self.numbers += number
        inside = number & ~under & ~over
        flat = inside & (sample == self._low) & (self._low == self._high)
        if flat.any():  # all of the band is that sample, as of a series that stands still
            self._widen(np.nonzero(flat), sample)
            inside &= ~flat
        which = np.nonzero(inside)
        if not which[0].size:
            return
        band, value, count = self._band[which], sample[which[1]], self._count[which]
        position = (band < value[:, None]).sum(axis=1)
        first = self._drops_first(which, count)
        places = np.arange(BAND + 1)
        wider = np.concatenate((band, np.full((len(band), 1), _PAD)), axis=1)
        before = np.maximum(places - (places > position[:, None]), 0)
        wider = np.take_along_axis(wider, before, axis=1)
        wider[np.arange(len(band)), position] = value
        self._below[which] += first
        self._put(which, np.where(first[:, None], wider[:, 1:], wider[:, :-1]), np.minimum(count + 1, BAND))

    def remove(self, sample: Floats) -> None:
        """One sample less of each series, one that was among them: float64, shape (series,)."""
        number = ~np.isnan(sample)
        under = number & (sample < self._low)
        over = number & (sample > self._high)
        self._below -= under
        self.numbers -= number
        inside = number & ~under & ~over
        flat = inside & (self._low == self._high)
        if flat.any():
            self._narrow(np.nonzero(flat))
            inside &= ~flat
        which = np.nonzero(inside)
        if not which[0].size:
            return
        band, value = self._band[which], sample[which[1]]
        position = (band < value[:, None]).sum(axis=1)
        places = np.arange(BAND)
        after = places + (places >= position[:, None])
        wider = np.concatenate((band, np.full((len(band), 1), _PAD)), axis=1)
        self._put(which, np.take_along_axis(wider, after, axis=1), self._count[which] - 1)

    def ranked(self) -> Floats | None:
        """The sample at each rank: shape (percents, series), NaN where a series has no number.

        None: a rank has left its band; fill it anew.
        """
        at = rank_of(self._percents, self.numbers) - self._below
        none = self.numbers == 0
        if self._broken or not (none | ((at >= 0) & (at < self._count))).all():
            return None
        found: Floats = np.take_along_axis(self._band, np.where(none, 0, at)[..., None], axis=2)[..., 0]
        found[:, none] = np.nan
        return found + 0.0  # of the two zeros, which are equal and in no order, the positive one

    def _drops_first(self, which: tuple[Integers, ...], count: Integers) -> NDArray[np.bool_]:
        """Of bands that get one more: which are full, and drop their first. It is the end that the rank is far from."""
        rank = rank_of(self._percents[which[0], 0], self.numbers[which[1]]) - self._below[which]
        return np.asarray((count == BAND) & (rank > BAND // 2))

    def _widen(self, which: tuple[Integers, ...], sample: Floats) -> None:
        count = self._count[which]
        self._below[which] += self._drops_first(which, count)
        self._band[(*which, np.minimum(count, BAND - 1))] = sample[which[1]]
        self._count[which] = np.minimum(count + 1, BAND)

    def _narrow(self, which: tuple[Integers, ...]) -> None:
        count = self._count[which] - 1
        self._band[(*which, count)] = _PAD
        self._count[which] = count
        empty = count == 0
        if empty.any():
            self._low[which] = np.where(empty, np.inf, self._low[which])
            self._high[which] = np.where(empty, -np.inf, self._high[which])
            self._broken |= bool((empty & (self.numbers[which[1]] > 0)).any())

    def _put(self, which: tuple[Integers, ...], band: Floats, count: Integers) -> None:
        self._band[which], self._count[which] = band, count
        self._low[which], self._high[which] = _ends(band, count)
        # Between what lies below and what lies above there is no telling where a next sample belongs.
        self._broken |= bool(((count == 0) & (self.numbers[which[1]] > 0)).any())


def _ends(band: Floats, count: Integers) -> tuple[Floats, Floats]:
    last = np.take_along_axis(band, np.maximum(count - 1, 0)[..., None], axis=-1)[..., 0]
    return band[..., 0], np.where(count > 0, last, -np.inf)
