"""Attack I1 with every order in which stores may become visible: every copy that a reader can end with is tried.

The program's own writer appends, and its stores are recorded one by one (:mod:`tests.siege.model.stores`). The check
assumes that a word does not tear and that stores to one word become visible as issued (coherence). Nothing else is
ordered: no fence, no dependency and no context switch, so this memory is weaker than any processor's. The load of one
word then neither waits for nor restricts the load of another, so a copy is any combination of one value for each word,
of all the values that the word ever had.

* **Slots** (:mod:`tests.siege.model.slots`): a writer appends into rings of one and two slots, is killed at any store,
  and its successor appends. Each combination of the words' histories, for each sequence, goes through
  :func:`shm.ring.frame.prove`; those without a restart also through a RingReader, over the file.
* **The catalog** (:mod:`tests.siege.model.catalog`): a reader takes whole entries, from the first on, or none.

What counts as appended
=======================

A frame counts as appended once its writer has sealed it (A3), under its number and salt. If the writer dies before its
A4, the successor finds no whole frame in that slot and gives the number to a frame of its own. A reader whose loads
fall on both sides of the restart can then accept the dead writer's frame under that number: a frame that was collected
and sealed under it, bit for bit. So after a death in flight one number may be read with either of two frames, but never
with a mixture of the two, and neither under another number. A number whose A4 was issued is never given again, except
in a ring of one slot, where the frame in flight takes the only slot. The program makes no ring below eight slots; the
check does, because it gives more numbers two frames.
"""

from __future__ import annotations

import itertools

from tests.siege.harness import Counts, Effort, Mutant, own_namespace
from tests.siege.model.catalog import check_catalog
from tests.siege.model.slots import PAYLOADS, Scenario, check_copies, check_reader
from tests.siege.model.stores import tiny_rings


def check(effort: Effort) -> Counts:
    entries, deaths = check_catalog()
    copies = read = histories = 0
    for payload, capacity in itertools.product(PAYLOADS, (1, 2)):
        # One frame of the successor is enough to reuse a number; two lap a ring of one slot once more.
        appends, more = (4, 2) if effort.long else (3, 1)
        scenario = Scenario(payload, capacity, appends, more, every_subset=effort.long)
        with own_namespace() as namespace, tiny_rings():
            scenario.run(namespace)
            copies += sum(check_copies(slot, scenario.salt) for slot in scenario.slots)
            read += check_reader(namespace, payload, 4 if effort.long else 2) if capacity == 1 else 0
        deaths += scenario.deaths
        histories += len(scenario.slots)
    return {
        "places of death": deaths,
        "histories of a slot": histories,
        "copies proven": copies,
        "copies proven by a reader": read,
        "copies of a catalog": entries,
    }


HASH = "shm.ring.protocol:xxh3_64_intdigest"


def hash_with_a_fault(digest: str) -> str:
    """The patch of HASH, and of shm.ring.staging, which imports the same function from the package later.

    ``digest``: an expression of ``original``, ``payload`` and ``seed``.
    """
    return f"""
import xxhash

def fault(payload, seed):
    return {digest}

xxhash.xxh3_64_intdigest = fault
"""


MUTANTS = (
    Mutant(
        "model", "no seal", "shm.ring.frame:prove",
        code="frame_seal(view[SLOT_PAYLOAD:], sequence, salt) != seal", becomes="False", says="never appended",
    ),
    Mutant(
        "model", "no seal in a window", "shm.ring.windows:Windows._copy_and_prove",
        code="rows[:, 1] == seals", becomes="True", says="accepted into a window",
    ),
    Mutant(
        "model", "a seal that does not cover the sequence", HASH,
        patch=hash_with_a_fault("original(payload, 0)"), says="never appended",
    ),
    Mutant(
        "model", "a seal that leaves the timestamp out", HASH,
        patch=hash_with_a_fault("original(payload[8:], seed)"), says="never appended",
    ),
    Mutant(
        "model", "a number given twice", "shm.ring.segment:StoredSegment._prove_slots",
        code="max(least_head, *whole, 0)", becomes="max(least_head, *whole, 1) - 1", says="I3: after frame",
    ),
    Mutant(
        "model", "a catalog entry taken without its seal", "shm.catalog:extend",
        code="entry_seal(data[at : at + 8] + body, catalog.used, salt) != seal", becomes="False",
        says="I1: a catalog",
    ),
    Mutant(
        "model", "an entry's seal that covers its length alone", "shm.ring.protocol:entry_seal",
        patch="def fault(payload, offset, salt): return original(payload[:8], offset, salt)", says="I1: a catalog",
    ),
    Mutant(
        "model", "an entry stored in one copy, seal and all", "shm.ring.segment:WritableSegment.enter",
        code="data[:8]", becomes="data[:16]", says="I1: a catalog",
    ),
)  # fmt: skip
