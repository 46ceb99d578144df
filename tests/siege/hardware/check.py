"""Attack I1 on this machine: a writer flat out on a ring of eight slots, three readers, frames that prove themselves.

For each row size one process appends without pause, so that every slot is lapped thousands of times a second, and three
others read by every method of a RingReader and check every word of what they accept. Then the same beside a writer
whose stores come in random order, because I1 must not rest on the order of A1 to A4. Many copies are torn or lapped;
these must be refused.
"""

from __future__ import annotations

import itertools
import sys
from collections import Counter
from typing import Final

from tests.siege.hardware.side import side
from tests.siege.harness import Counts, Effort, Mutant, own_namespace
from tests.siege.model.check import HASH, hash_with_a_fault

COLUMNS: Final = (1, 16, 128, 4096)
_PATIENCE_SECONDS: Final = 1200.0  # only for a hang


def check(effort: Effort) -> Counts:
    done: dict[str, Counter[str]] = {"in order": Counter(), "shuffled": Counter()}
    frames = {"in order": effort.many(8_000, 3_000_000), "shuffled": effort.many(4_000, 500_000)}
    command = [sys.executable, "-m", "tests.siege.hardware.program"]
    with own_namespace() as namespace, side("this machine", command) as one:
        for columns, (writes, counts) in itertools.product(COLUMNS, done.items()):
            one.order(
                "race", namespace=namespace, source=f"rows-{columns}", columns=columns, readers=3, writes=writes,
                # A row of 4,096 values takes some ten times as long as the others.
                frames=round(frames[writes] / (1 + columns / 500)), seconds=_PATIENCE_SECONDS, seed=effort.seed,
            )  # fmt: skip
            counts.update(one.answer(after=_PATIENCE_SECONDS))
    return {
        **{f"{what}, in order": count for what, count in done["in order"].items()},
        **{f"{what}, with stores shuffled": count for what, count in done["shuffled"].items()},
    }


MUTANTS = (
    Mutant(
        "hardware", "no seal", "shm.ring.frame:prove",
        code="frame_seal(view[SLOT_PAYLOAD:], sequence, salt) != seal", becomes="False", says="I1: frame()",
    ),
    Mutant(
        "hardware", "no seal in a window", "shm.ring.windows:Windows._copy_and_prove",
        code="rows[:, 1] == seals", becomes="True", says="I1: frames()",
    ),
    Mutant(
        "hardware", "a seal that covers the first half of a frame", HASH,
        patch=hash_with_a_fault("original(payload[: len(payload) // 2], seed)"), says="I1: frame",
    ),
)  # fmt: skip
