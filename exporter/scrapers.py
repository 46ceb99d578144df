"""Notice servers whose scrape interval does not fit the interval of a source.

Prometheus' rate() extrapolates from the first and the last sample to the ends of the range, by at most 1.1 times the
mean interval between samples; where the gap is longer, the result is too low. With timestamps, rates are right if every
frame is scraped. A server that scrapes frames of 15 s every 20 s gets samples that are 15, 15 and 30 s apart: rate() is
wrong by up to a quarter. Without timestamps, each repeated or skipped frame makes an error, unless the scrape interval
is a multiple of the source's.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from typing import Final

from exporter.http.parameters import MetricsQuery
from exporter.rings import Ring

# The median of so many intervals is used: a scrape may be missing, or come twice when its server restarts.
_INTERVALS: Final = 5
# More servers than scrape one host; a new client evicts the one whose last scrape is the oldest.
_MOST_CLIENTS: Final = 32
_GONE_INTERVALS: Final = 3
_EXTRAPOLATED: Final = 1.1  # mean intervals, by Prometheus' rate()
_TOLERANCE: Final = 0.02  # of one frame: measured intervals vary
_ERROR: Final = 0.01  # smaller errors are not reported

# Address, port, query: a server keeps a connection for each of its jobs.
Client = tuple[str, int, MetricsQuery]


class Scrapers:
    """The times of the last scrapes of each client. ``monotonic``: a clock in nanoseconds."""

    def __init__(self, monotonic: Callable[[], int]) -> None:
        self._monotonic = monotonic
        self._times: OrderedDict[Client, deque[int]] = OrderedDict()

    def note(self, address: str, port: int, query: MetricsQuery) -> None:
        """A server has scraped /metrics over the connection from there."""
        client = address, port, query
        self._times.setdefault(client, deque(maxlen=_INTERVALS + 1)).append(self._monotonic())
        self._times.move_to_end(client)
        if len(self._times) > _MOST_CLIENTS:
            self._times.popitem(last=False)

    def problems(self, rings: Iterable[Ring]) -> dict[tuple[Client, float], str]:
        """A sentence for each client and each interval of sources, in seconds, that do not fit."""
        by_interval: dict[float, list[str]] = {}
        for ring in rings:
            by_interval.setdefault(ring.reader.header.interval_ns / 1e9, []).append(ring.source)
        found = {}
        for client, times in self._times.items():
            address, _, query = client
            scrape = self._interval_seconds(times)
            for frame, sources in by_interval.items():
                asked = [source for source in sources if source in (query.sources or sources)]
                timed = query.timestamps != "none"
                if scrape and asked and not fits(scrape, frame, timed):
                    found[client, frame] = _sentence(address, scrape, asked, frame, timed)
        return found

    def _interval_seconds(self, times: deque[int]) -> float:
        """From scrape to scrape; 0: not known yet, or the client is gone."""
        if len(times) <= _INTERVALS:
            return 0.0
        interval_ns = statistics.median(later - earlier for earlier, later in itertools.pairwise(times))
        return interval_ns / 1e9 if self._monotonic() - times[-1] < _GONE_INTERVALS * interval_ns else 0.0


def fits(scrape_seconds: float, frame_seconds: float, timed: bool) -> bool:
    """Whether rates are right at these intervals. ``timed``: counters have the time of their frame."""
    frames = scrape_seconds / frame_seconds
    if timed:
        return math.ceil(frames - _TOLERANCE) <= max(_EXTRAPOLATED * frames, 1)
    return frames >= 1 / _ERROR or (round(frames) >= 1 and abs(frames - round(frames)) <= _TOLERANCE)


def _sentence(address: str, scrape: float, sources: list[str], frame: float, timed: bool) -> str:
    scraped, collected = (f"{float(f'{seconds:.3g}'):g} s" for seconds in (scrape, frame))
    if timed:
        wrong, remedy = "rate() is", f"set its scrape_interval to {collected}, to less, or to a multiple of it"
    else:
        wrong = "rate() and irate() are"
        remedy = f"leave their timestamps on, or set its scrape_interval to a multiple of {collected}"
    return (
        f"{address} scrapes every {scraped}, but frames of {', '.join(sources)} come every {collected}: "
        f"{wrong} wrong there; {remedy}"
    )
