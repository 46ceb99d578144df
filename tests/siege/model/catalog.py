"""The catalog under a memory without order: a reader takes whole entries, from the first on, or none.

As with slots: the program's own stores are recorded while it enters a metric and series, and while a successor goes
on after a SIGKILL at any store. A reader's copy is any combination of the words' histories, under any announcement.

An entry's seal is stored last. So an entry of which the seal was issued is whole when its writer is dead, and its
successor keeps it; of any other the seal is nowhere, and no mixture with the successor's entry in the same place holds.
What a reader accepts is then always the beginning of the catalog that the last writer knows.
"""

from __future__ import annotations

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
    """How many copies went through extend(), and how many places of a SIGKILL there were."""
    with own_namespace() as namespace, tiny_rings():
        copies, deaths = _check_two_writers(namespace)
        return copies + _check_one_writer(namespace), deaths


def _check_one_writer(namespace: str) -> int:
    """A metric and a series are entered into an empty catalog."""
    with open_writer(namespace, "one", capacity=1, width=WIDTH) as writer:
        with Recorder(writer.path, 0, FIRST + WORDS) as recorder:
            words = recorder.words()
            history = History.beginning(words[FIRST:])
            _, steps = recorder.record(lambda: writer.add_series(METRIC, ("a",)))
            for step in steps:
                history.add(step.stored, FIRST)
            announced = {0} | _announced(steps)
        entered = list(writer.columns.values())
        return _check_copies([history], announced, announced, writer.header.salt, entered)


def _check_two_writers(namespace: str) -> tuple[int, int]:
    """The first enters a second series and is killed at any store; its successor enters another."""
    copies = deaths = 0
    writer = open_writer(namespace, "two", capacity=1, width=WIDTH)
    salt = writer.header.salt
    with Recorder(writer.path, 0, FIRST + WORDS) as recorder:
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
            for stored in (*(step.stored for step in steps[:number]), partial):
                for word, value in stored.items():
                    words[word] = value
                history.add(stored, FIRST)
            announced.add(words[WORD_CATALOG_USED])
            recorder.put(whole)
            recorder.put_words(words)
            series, following = recorder.record(lambda: _succeed(namespace))
            for step in following:
                history.add(step.stored, FIRST)
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
    """What the steps stored as the end of the catalog's used part."""
    return {value for step in steps for word, value in step.stored.items() if word == WORD_CATALOG_USED}


def _succeed(namespace: str) -> list[Series]:
    with RingWriter(namespace, "two", interval_ns=INTERVAL_NS, capacity=1, width=WIDTH) as writer:
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
