"""I1 whatever the processor: every order in which stores may become visible, against every order of a reader's loads.

Three models, from the idea to the program's own bytes:

1. **All states** of a small abstract ring (:mod:`tests.siege.model.memory`): two and three appends, and a writer that
   died before its A4 with a successor that reuses the number, under six orders of stores and loads. The protocol
   holds under all of them. Without a seal, with one that leaves out the sequence or a word, and with a seqlock
   where it is known to break, the model must find the wrong frame: a model that finds nothing there proves nothing
   elsewhere. It also shows, by comparing sets, that the copies a reader can end with under no order at all are the
   product of the words' histories.

2. **All copies** of the program's own slots. The stores of the program's writer are recorded while it appends into
   rings of one and two slots, which it laps, and while its successor resumes after a SIGKILL at any store, in the
   midst of a copy at any subset of its words. Each combination of the words' histories, for each sequence there was,
   goes through :func:`shm.ring.frame.prove`; those without a restart also through a RingReader, over the file.

3. **All copies of the catalog**, likewise: a reader takes whole entries, from the first on, or none.

What counts as appended
=======================

A frame counts as appended once its writer has sealed it (A3), under its number and salt, payload and all. Where the
writer dies before its A4, the successor finds no whole frame in that slot and gives the number to a frame of its own.
A reader whose loads fall on both sides of the restart can then meet every word of the dead writer's frame, the number
from the successor's A4, and accepts it: a frame that was collected and sealed under that number, bit for bit. So after
a death in flight one number may be read with either of two frames. What is never accepted is a mixture of the two, or
either of them under another number. A number whose A4 was issued is never given again, but in a ring of one slot,
where the frame in flight takes the only place (the program makes none below eight; here it makes for more numbers with
two frames).
"""

from __future__ import annotations

import itertools

from tests.siege.harness import Counts, Effort, Mutant, own_namespace, require
from tests.siege.model import memory
from tests.siege.model.catalog import check_catalog
from tests.siege.model.slots import PAYLOADS, Scenario, check_copies, check_reader
from tests.siege.model.stores import tiny_rings

Appends = tuple[str, list[memory.Sealed], int | None]  # name, the frames, which of them is never published
Order = tuple[memory.StoreOrder, memory.LoadOrder]


def check(effort: Effort) -> Counts:
    entries, entry_deaths = check_catalog()
    states = check_states(4 if effort.long else 3)
    copies = read = deaths = scenarios = 0
    payloads = list(PAYLOADS.values())
    for payload, capacity in itertools.product(payloads, (1, 2)):
        # One frame of the successor is enough to reuse a number; two lap a ring of one slot once more.
        appends, more = (4, 2) if effort.long else (3, 1)
        scenario = Scenario(payload, capacity, appends, more, every_subset=effort.long)
        with own_namespace() as namespace, tiny_rings():
            scenario.run(namespace)
            copies += sum(check_copies(slot, scenario.salt) for slot in scenario.slots)
            read += check_reader(namespace, payload, 4 if effort.long else 2) if capacity == 1 else 0
        deaths += scenario.deaths
        scenarios += len(scenario.slots)
    return {
        "states": states,
        "places of death": deaths + entry_deaths,
        "histories of a slot": scenarios,
        "copies proven": copies,
        "copies proven by a reader": read,
        "copies of a catalog": entries,
    }


def check_states(most: int) -> int:
    """With up to ``most`` appends; how many states were visited."""

    def frame(sequence: int, writer: str = "") -> memory.Sealed:
        return memory.Sealed(sequence, (f"t{sequence}{writer}", f"v{sequence}{writer}"))

    programs: list[Appends] = [(f"{n} appends", [frame(s) for s in range(1, n + 1)], None) for n in range(2, most + 1)]
    programs.append(("a death before A4", [frame(1), frame(2, "dead"), frame(2)], 1))
    states = 0
    for program, order in itertools.product(programs, memory.ORDERS):
        states += _check_that_it_holds(memory.PROTOCOL, program, order)
        if program is programs[0]:
            states += _check_that_it_holds(memory.SEAL_ALONE, program, order)
        # The proofs that are none must be seen to be none.
        for proof in (memory.NO_SEAL, memory.UNNUMBERED, memory.PARTIAL):
            # All in order, loads from the end on: the word left out is stored first and loaded last.
            if proof is not memory.PARTIAL or order != ("program", "descending"):
                states += _check_that_it_is_seen(proof, program, order)
    for program in programs:
        states += _check_that_it_holds(memory.SEQLOCK, program, ("program", "ascending"))
        states += _check_that_it_is_seen(memory.SEQLOCK, program, ("any", "ascending"))
    return states


def _check_that_it_holds(proof: memory.Proof, program: Appends, order: Order) -> int:
    name, appends, dead = program
    stores = memory.program(proof, appends, dead)
    explored = memory.explore(proof, stores, appends, order)
    where = f"{name}, stores in order {order[0]!r}, loads {order[1]!r}"
    require(not explored.trace, f"I1: {proof.name}, {where}: {'; '.join(explored.trace)}")
    possible = memory.product(stores, proof.loads)
    require(explored.copies <= possible, f"model: {where}: a copy that no history explains")
    if order == ("any", "any"):
        require(explored.copies == possible, f"model: {where}: the product of the histories has more copies")
    return explored.states


def _check_that_it_is_seen(proof: memory.Proof, program: Appends, order: Order) -> int:
    name, appends, dead = program
    explored = memory.explore(proof, memory.program(proof, appends, dead), appends, order)
    require(explored.trace, f"model: no wrong frame is found with {proof.name}, {name}, {order}")
    return explored.states


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
    Mutant(
        "model", "an abstract seal that does not cover the sequence", "tests.siege.model.memory:_whole",
        code='("seal of", frame.sequence, *frame.payload)', becomes='("seal of", *frame.payload)',
        says="I1: sequence and seal",
    ),
)  # fmt: skip
