"""Count in an application's tables, and read them as a scrape does: helpers of the check ``applications``."""

from __future__ import annotations

import contextlib
import os
import sys
import types
from collections.abc import Callable, Iterator
from typing import Final

from shm.files import DIRECTORY
from shm.metric import Metric
from shm.ring.layout import ABSENT
from shm.table import cells, dead, file, process
from shm.table.format import RETIRED, listed
from shm.table.merge import ApplicationReader
from shm.table.process import ProcessTable
from tests.application import cell_of
from tests.siege.harness import require

APPLICATION: Final = "app"
HITS: Final = Metric("hits", "counter", "Counted.", label_names=("of",))
TAKEN: Final = Metric("taken", "histogram", "Observed.", buckets=(1.0, 2.0))
HERE: Final = Metric("here", "gauge", "1 a process that lives.")
MORE: Final = Metric("more", "counter", "Series that make tables grow.", label_names=("of",))
OURS: Final = frozenset({process.__file__, file.__file__, cells.__file__})  # whose lines move a table's words

Series = dict[tuple[str, tuple[str, ...]], list[float]]  # (name, label values) → the columns of a series


# ---- counting ------------------------------------------------------------------------------------------------


def count(table: ProcessTable, of: str, amount: float = 1.0, metric: Metric = HITS) -> None:
    cell_of(table, metric, of).inc(amount)


@contextlib.contextmanager
def at_call(
    number: int, counts: Callable[[types.FrameType, str], bool], act: Callable[[str], object]
) -> Iterator[list[str]]:
    """Call ``act`` at the ``number``-th of this thread's calls and returns in the block that ``counts``.

    Yields the place where it was, once it was; ``act`` is given it.
    """
    seen = 0
    places: list[str] = []

    def profile(frame: types.FrameType, event: str, argument: object) -> None:
        nonlocal seen
        seen += counts(frame, event)
        if seen == number:
            sys.setprofile(None)
            places.append(f"{event} of {frame.f_code.co_name}, line {frame.f_lineno}")
            act(places[0])

    sys.setprofile(profile)
    try:
        yield places
    finally:
        sys.setprofile(None)


# ---- reading -------------------------------------------------------------------------------------------------


def reading(namespace: str, application: str = APPLICATION) -> contextlib.closing[ApplicationReader]:
    return contextlib.closing(ApplicationReader(namespace, application, {os.geteuid()}))


def identities(namespace: str, application: str = APPLICATION) -> list[str]:
    return listed(namespace).get(application, [])


def scraped(reader: ApplicationReader, identities: list[str]) -> Series:
    """The present series of those tables."""
    values = reader.refresh(identities)
    require(not reader.errors, f"tables that nobody harmed are refused: {reader.errors}")
    own = {(one.metric.name, one.label_values): values[one.column : one.end] for one in reader.plan.series}
    return {key: words.tolist() for key, words in own.items() if words[-1:].tobytes() != ABSENT}


def shown(namespace: str, application: str = APPLICATION) -> Series:
    """The present series of all tables, to a new reader."""
    with reading(namespace, application) as reader:
        return scraped(reader, identities(namespace, application))


def by_label(series: Series) -> dict[str, float]:
    """The counters of HITS, by their label."""
    return {labels[0]: words[0] for (name, labels), words in series.items() if name == HITS.name}


def reclaim(namespace: str, application: str = APPLICATION) -> int:
    """Fold all of the dead; nothing of them must be left, what they were building included."""
    for path in DIRECTORY.glob(f"fogmetrics.{namespace}.{application}.*.new"):
        os.utime(path, (0, 0))
    folded = dead.fold(namespace, application)
    left = [path.name for path in DIRECTORY.glob(f"fogmetrics.{namespace}.{application}.*")]
    wanted = (f"{RETIRED}.table", f"{RETIRED}.lock", f"{RETIRED}.new")
    over = [name for name in left if not name.endswith(wanted)]
    require(not over, f"of dead processes {over} are left after folding")
    return folded
