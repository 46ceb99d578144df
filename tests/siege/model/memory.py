"""A weakly ordered memory, small enough to be explored to its end.

The memory
==========

A writer issues stores, a reader issues loads; both in words, and a word never tears. What holds between words is the
order that is explored:

    stores   ``program``: they become visible as they were issued, as on x86
             ``any``: in any order, but for those to one word, which become visible as issued (coherence; every
             processor that Linux runs on has it)
    loads    ``ascending``: one after the other, from the slot's first word on, as a plain copy does
             ``descending``: from its last word on, as a copy may as well
             ``any``: in any order

A state is how many of each word's stores are visible, and what each load has returned, if it has. Steps: one more
store becomes visible; one more load returns what its word holds. :func:`explore` visits every state that is reached
from the first by any sequence of steps, and looks at each copy that a reader can end with.

Stores ``any`` and loads ``any`` is weaker than any processor: no fence, no dependency and no context switch orders
anything. A copy is then any combination of one value for each word, of all values the word ever had: each word's
steps neither wait for another's nor hinder them, so that the load of each can be put at the moment of its own. So
the copies are the product of the words' histories. :mod:`tests.siege.model.check` compares the two sets, and relies on
the product where the program's own bytes are too many for all states.

The protocol in it
==================

A ring of one slot, which every append laps: sequence, seal, and a payload of two words. The seal is an ideal one:
equal seals mean equal payload and sequence. The reader asks for every sequence there was, at any moment: the head
is a hint that may lie, so it needs no word of its own.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Value = Hashable
Copy = tuple[Value, ...]  # what the loads returned, in the order of the proof's ``loads``

StoreOrder = Literal["program", "any"]
LoadOrder = Literal["ascending", "descending", "any"]
ORDERS: tuple[tuple[StoreOrder, LoadOrder], ...] = (
    ("program", "ascending"),
    ("program", "descending"),
    ("program", "any"),
    ("any", "ascending"),
    ("any", "descending"),
    ("any", "any"),
)
WORDS = ("sequence", "seal", "timestamp", "value")
INITIAL: Value = 0


@dataclass(frozen=True)
class Store:
    """One store of one word. ``label``: where it is in the protocol, for whoever reads a trace."""

    label: str
    word: str
    value: Value


@dataclass(frozen=True)
class Sealed:
    """A frame that a writer has sealed: its number and its payload."""

    sequence: int
    payload: tuple[Value, ...]


@dataclass(frozen=True)
class Proof:
    """How a reader decides: what it loads, and when it takes the copy for the frame ``sequence``."""

    name: str
    seal: Callable[[Sealed], Value]
    accepts: Callable[[Copy, int, Callable[[Sealed], Value]], bool]
    loads: tuple[str, ...] = WORDS


def program(proof: Proof, appends: Sequence[Sealed], unpublished: int | None = None) -> list[Store]:
    """A1…A4 of these appends. The writer of the ``unpublished`` one dies before its A4."""
    stores = []
    for number, frame in enumerate(appends):
        name = f"append {number + 1} (frame {frame.sequence})"
        stores += [
            Store(f"A1 of {name}", "sequence", 0),
            *(
                Store(f"A2 of {name}", word, value)
                for word, value in zip(("timestamp", "value"), frame.payload, strict=True)
            ),
            Store(f"A3 of {name}", "seal", proof.seal(frame)),
        ]
        if number != unpublished:
            stores.append(Store(f"A4 of {name}", "sequence", frame.sequence))
    return stores


def histories(stores: Sequence[Store]) -> dict[str, list[Value]]:
    """Every value that each word ever has, the initial one first."""
    return {word: [INITIAL, *(store.value for store in stores if store.word == word)] for word in WORDS}


def product(stores: Sequence[Store], loads: Sequence[str]) -> set[Copy]:
    held = histories(stores)
    return set(itertools.product(*(held[word] for word in loads)))


@dataclass(frozen=True)
class Explored:
    """``copies``: all that a reader can end with. ``trace``: the steps to a wrong frame, the first that was met; with
    it the exploration ends. Empty where there is none.
    """

    states: int
    copies: set[Copy]
    trace: list[str]


# visible stores of each word of WORDS; what each load returned, as an index into its word's history
_State = tuple[tuple[int, ...], tuple[int | None, ...]]


def explore(
    proof: Proof, stores: Sequence[Store], appended: Sequence[Sealed], order: tuple[StoreOrder, LoadOrder]
) -> Explored:
    """All states, breadth first, so that a trace is a shortest one."""
    store_order, load_order = order
    held = histories(stores)
    place = {word: i for i, word in enumerate(WORDS)}
    loads = [place[word] for word in proof.loads]
    of_word = [[i for i, store in enumerate(stores) if store.word == word] for word in WORDS]
    asked = sorted({frame.sequence for frame in appended})
    genuine = {(frame.sequence, frame.payload) for frame in appended}

    def steps(state: _State) -> Iterator[_State]:
        visible, loaded = state
        for word, count in enumerate(visible):
            if count == len(of_word[word]):
                continue
            # In program order a store waits for all that were issued before it.
            if store_order == "program" and of_word[word][count] != sum(visible):
                continue
            yield (*visible[:word], count + 1, *visible[word + 1 :]), loaded
        waiting = [i for i, index in enumerate(loaded) if index is None]
        if load_order != "any":
            waiting = waiting[:1] if load_order == "ascending" else waiting[-1:]
        for i in waiting:
            yield visible, (*loaded[:i], visible[loads[i]], *loaded[i + 1 :])

    first: _State = (0,) * len(WORDS), (None,) * len(loads)
    before: dict[_State, _State | None] = {first: None}
    copies: set[Copy] = set()
    frontier = [first]
    while frontier:
        reached = []
        for state in frontier:
            if None not in state[1]:
                copy = tuple(held[word][index or 0] for word, index in zip(proof.loads, state[1], strict=True))
                if copy not in copies:
                    copies.add(copy)
                    for sequence in asked:
                        payload = copy[2:4]
                        if proof.accepts(copy, sequence, proof.seal) and (sequence, payload) not in genuine:
                            trace = _told(state, before, stores, of_word, proof.loads, held)
                            trace.append(f"the reader accepts {payload} as frame {sequence}")
                            return Explored(len(before), copies, trace)
            for following in steps(state):
                if following not in before:
                    before[following] = state
                    reached.append(following)
        frontier = reached
    return Explored(len(before), copies, [])


def _told(
    state: _State,
    before: dict[_State, _State | None],
    stores: Sequence[Store],
    of_word: list[list[int]],
    loads: Sequence[str],
    held: dict[str, list[Value]],
) -> list[str]:
    """The steps that led to that state, in words."""
    told: list[str] = []
    while (previous := before[state]) is not None:
        for word, (old, new) in enumerate(zip(previous[0], state[0], strict=True)):
            if old != new:
                store = stores[of_word[word][old]]
                told.append(f"{store.label}: {store.word} = {store.value} becomes visible")
        for load, (was, index) in enumerate(zip(previous[1], state[1], strict=True)):
            if was is None and index is not None:
                told.append(f"the reader loads {loads[load]}: {held[loads[load]][index]}")
        state = previous
    return told[::-1]


# ---- the proofs that are compared ----------------------------------------------------------------------------


def _whole(frame: Sealed) -> Value:
    return ("seal of", frame.sequence, *frame.payload)


def _payload_alone(frame: Sealed) -> Value:
    return ("seal of", *frame.payload)


def _one_word_left_out(frame: Sealed) -> Value:
    return ("seal of", frame.sequence, *frame.payload[1:])


def _both(copy: Copy, sequence: int, seal: Callable[[Sealed], Value]) -> bool:
    return copy[0] == sequence and copy[1] == seal(Sealed(sequence, copy[2:4]))


def _seal_alone(copy: Copy, sequence: int, seal: Callable[[Sealed], Value]) -> bool:
    return copy[1] == seal(Sealed(sequence, copy[2:4]))


def _sequence_alone(copy: Copy, sequence: int, seal: Callable[[Sealed], Value]) -> bool:
    return copy[0] == sequence


def _before_and_after(copy: Copy, sequence: int, seal: Callable[[Sealed], Value]) -> bool:
    return copy[0] == sequence == copy[4]


PROTOCOL = Proof("sequence and seal", _whole, _both)
# The seal is the whole proof: the look at the sequence spares work, and tells torn from lapped.
SEAL_ALONE = Proof("seal alone", _whole, _seal_alone)
NO_SEAL = Proof("no seal", _whole, _sequence_alone)
UNNUMBERED = Proof("a seal that does not cover the sequence", _payload_alone, _both)
PARTIAL = Proof("a seal that leaves a word out", _one_word_left_out, _both)
# Right on x86 with loads in order, wrong elsewhere: docs/protocol.md, "What was rejected".
SEQLOCK = Proof("sequence before and after, no seal", _whole, _before_and_after, (*WORDS, "sequence"))
