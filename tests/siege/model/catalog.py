"""Every copy of a catalog that a reader can end with: it takes whole entries, from the first on, or none.

As with slots, the program's own stores are recorded while it enters a metric and series, and while a successor goes on
after a SIGKILL at any store. A reader's copy is any combination of the words' histories, under any announced size.

An entry's seal is stored last. An entry whose seal was issued is therefore whole when its writer is dead, and the
successor keeps it. The seal of any other entry was never stored, so no mixture with the successor's entry in the same
place holds. What a reader accepts is always the beginning of the catalog that the last writer knows.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence

from shm import catalog
from shm.metric import Metric, Series
from shm.ring.layout import HEADER_BYTES, WORD_CATALOG_USED
from shm.ring.writer import RingWriter
from tests.rings import INTERVAL_NS, open_writer
from tests.siege.harness import own_namespace, require
from tests.siege.model.stores import History, Recorder, Step, issued, maximal, tiny_rings

WIDTH = 4
FIRST = HEADER_BYTES // 8
WORDS = 48  # of the catalog: more than the entries here take
METRIC = Metric("m", "gauge", "h", "", ("l",))


def check_catalog() -> tuple[int, int]:
    """A writer enters a second series and is killed at any store; its successor enters another one.

    Returns the number of copies that went through extend(), and of places of a SIGKILL.
    """
    copies = deaths = 0
    with contextlib.ExitStack() as stack:
        namespace = stack.enter_context(own_namespace())
        stack.enter_context(tiny_rings())
        writer = open_writer(namespace, capacity=1, width=WIDTH)
        salt = writer.header.salt
        recorder = stack.enter_context(Recorder(writer.path, 0, FIRST + WORDS))
        _, steps = recorder.record(lambda: writer.add_series(METRIC, ("a",)))
        ends = {0} | _announced(steps)
        whole, before = recorder.whole(), recorder.words()
        _, steps = recorder.record(lambda: writer.add_series(METRIC, ("dead",)))
        # The successor's entry is as long, and in its place or behind it.
        ends |= _announced(steps) | {2 * max(_announced(steps)) - max(ends)}
        writer.close()
        groups: dict[tuple[tuple[str, int], ...], tuple[list[History], set[int], list[Series]]] = {}
        for number, partial in issued(steps):
            words = list(before)
            history = History.beginning(words[FIRST:])
            announced = {words[WORD_CATALOG_USED]}
            for stored in (*steps[:number], partial):
                for word, value in stored.items():
                    words[word] = value
                history.add(stored, FIRST)
            announced.add(words[WORD_CATALOG_USED])
            recorder.put(whole)
            recorder.put_words(words)
            series, following = recorder.record(lambda: _succeed(namespace))
            for step in following:
                history.add(step, FIRST)
            announced |= _announced(following)
            key = tuple((one.label_values[0], one.column) for one in series)
            histories, all_announced, _ = groups.setdefault(key, ([], set(), series))
            histories.append(history)
            all_announced |= announced
            deaths += 1
    for histories, all_announced, series in groups.values():
        copies += _check_copies(histories, all_announced, ends, salt, series)
    return copies, deaths


def _announced(steps: Sequence[Step]) -> set[int]:
    """The sizes of the catalog that the steps announced."""
    return {value for step in steps for word, value in step.items() if word == WORD_CATALOG_USED}


def _succeed(namespace: str) -> list[Series]:
    with RingWriter(namespace, "s", interval_ns=INTERVAL_NS, capacity=1, width=WIDTH) as writer:
        writer.add_series(METRIC, ("next",))
        return list(writer.columns.values())


def _check_copies(
    histories: Sequence[History], announced: set[int], ends: set[int], salt: int, entered: list[Series]
) -> int:
    """``ends``: where entries end. ``entered``: the series of METRIC as the last writer knows them."""
    copies = most = 0
    for history in maximal(histories):
        for words, hint in itertools.product(history.combinations(), sorted(announced)):
            data = b"".join([word.to_bytes(8, "little") for word in words])
            read = catalog.Catalog()
            catalog.extend(read, data, hint, WIDTH, salt)
            copies += 1
            most = max(most, len(read.series))
            require(
                read.used in ends
                and read.metrics == [METRIC][: len(read.metrics)]
                and read.series == entered[: len(read.series)],
                f"I1: a catalog of {read.metrics} and {read.series}, {read.used} bytes, was accepted, never entered; "
                f"it was {entered}, and entries end at {sorted(ends)}",
            )
    require(most == len(entered), f"I1: {len(entered)} series were entered, and no copy gave all of them")
    return copies
