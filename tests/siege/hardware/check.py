"""I1 on this machine: writers flat out on a ring of eight slots, several readers, frames that prove themselves.

For each size of row one process appends without pause, so that every slot is lapped tens of thousands of times a
second, and three others read by all ways of a RingReader and check every word of what they accept. Then the same
beside a writer whose stores come in random order: I1 must not rest on the order of A1…A4, and here it is not there.
Many copies are torn or lapped; these are refused, and counted.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.rings import open_writer
from tests.siege.hardware.program import CAPACITY, PATIENCE_SECONDS
from tests.siege.harness import ROOT, Counts, Effort, Mutant, Violation, own_namespace
from tests.siege.model.check import HASH, hash_with_a_fault

# Columns of a row → its part of all frames. One of 4,096 takes five times as long to read and check as the others.
ROWS = {1: 0.32, 16: 0.32, 128: 0.31, 4096: 0.05}
READERS = 3


class Child:
    """A process of :mod:`tests.siege.hardware.program`."""

    def __init__(self, role: str, namespace: str) -> None:
        self.role = role
        command = [sys.executable, "-m", "tests.siege.hardware.program", role, namespace]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe)

    def tell(self, **order: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self, timeout: float = PATIENCE_SECONDS) -> dict[str, Any]:
        """What it says next. Raises Violation where it found a wrong frame."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], timeout)
        assert ready, f"the {self.role} did not answer within {timeout:g} s"
        line = self._process.stdout.readline()
        if not line:
            _, errors = self._process.communicate(timeout=PATIENCE_SECONDS)
            raise AssertionError(f"the {self.role} ended: {errors.decode()}")
        answer: dict[str, Any] = json.loads(line)
        if "wrong" in answer:
            raise Violation(answer["wrong"])
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@contextlib.contextmanager
def _children(namespace: str) -> Iterator[tuple[dict[str, Child], list[Child]]]:
    writers: dict[str, Child] = {}
    readers: list[Child] = []
    try:
        for role in ("writer", "shuffler"):
            writers[role] = Child(role, namespace)
        for _ in range(READERS):
            readers.append(Child("reader", namespace))
        yield writers, readers
    finally:
        for child in (*writers.values(), *readers):
            child.end()


def check(effort: Effort) -> Counts:
    quotas = {"writer": effort.many(300_000, 102_000_000), "shuffler": effort.many(100_000, 12_000_000)}
    done: dict[str, Counter[str]] = {role: Counter() for role in quotas}
    seeds = effort.random()
    with own_namespace() as namespace, _children(namespace) as (writers, readers):
        for columns, part in ROWS.items():
            open_writer(namespace, f"rows-{columns}", capacity=CAPACITY, columns=columns).close()
            for role, quota in quotas.items():
                one = max(round(quota * part / READERS), 1)
                done[role] += _siege(writers[role], readers, columns, one, seeds.getrandbits(32))
    ordered, shuffled = done["writer"], done["shuffler"]
    return {
        "row sizes": ", ".join(f"{columns:,}" for columns in ROWS),
        "readers": READERS,
        "frames appended": ordered["appended"],
        "frames read": ordered["read"],
        "accepted": ordered["accepted"],
        "torn or lapped": ordered["read"] - ordered["accepted"],
        "windows": ordered["windows"],
        "appended with stores shuffled": shuffled["appended"],
        "read of these": shuffled["read"],
        "accepted of these": shuffled["accepted"],
    }


def _siege(writer: Child, readers: list[Child], columns: int, quota: int, seed: int) -> Counter[str]:
    """That many frames are read by each of the readers while the writer appends."""
    order = {"source": f"rows-{columns}", "columns": columns}
    writer.tell(**order)
    writer.answer()
    for number, reader in enumerate(readers):
        reader.tell(**order, quota=quota, seed=seed + number)
    done: Counter[str] = Counter()
    for reader in readers:
        answer = reader.answer(2 * PATIENCE_SECONDS + quota / 1000)
        assert not answer.pop("late"), f"a reader was starved: {answer} of {quota} frames"
        done += Counter(answer)
    writer.tell(stop=True)
    done += Counter(writer.answer())
    return done


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
    Mutant(
        "hardware", "a seal that does not cover the sequence", HASH,
        patch=hash_with_a_fault("original(payload, 0)"), says="I1: frame",
    ),
)  # fmt: skip
