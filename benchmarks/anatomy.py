"""The parts of an append, each timed separately.

An append of 2 µs is too short for a sampling profiler. The statements of :meth:`RingWriter.append` and
:meth:`Staging.copy` are repeated in one function each, with their names in local variables as in the original. The
remainder is the interpreter's: calls, checks, and look-ups of names that are not local variables.
"""

from __future__ import annotations

import functools
import os
import time
import timeit
from array import array
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from xxhash import xxh3_64_intdigest

from benchmarks.harness import Answer, Breakdown, Effort, Measured, in_turns
from shm.ring.writer import DEFAULT_CAPACITY, RingWriter
from tests.rings import open_writer, remove_files_of

_COLUMNS: Final = 16
_WHOLE: Final = f"`append` of {_COLUMNS} series"
_EMPTY: Final = "pass"
_REPEAT: Final = 20_000
_TURNS: Final = 21

# By part, the statements.
_PARTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "packing time, count and flags": "numbers[0] = 1; numbers[1] = 1; numbers[2] = 16; numbers[3] = 1",
        "packing the samples": "samples[:] = values",
        "sealing (XXH3)": "seal[0] = digest(payload, sequence ^ salt); last[0] = last[1] = sequence; last[beat] = 1",
        "the clock": "clock(boottime)",
        "pointing at the slot": "target[offset : offset + 8]; target[offset + 8 : offset + size]",
        "kernel: copying it into the ring (preadv)": "preadv(fd, (word, slot, word, hints), 0)",
    }
)


def of_an_append(effort: Effort, answer: Answer) -> None:
    """Add the time of an append, and of its parts, to the answer."""
    namespace = f"bench-{os.getpid()}"
    try:
        with open_writer(namespace, capacity=DEFAULT_CAPACITY, columns=_COLUMNS) as writer:
            values = array("d", range(_COLUMNS))
            writer.append(values, 1, 1)
            names = _names(writer, values)
            statements = {_WHOLE: "append(values, 1, 1)", _EMPTY: _EMPTY, **_PARTS}
            setup = "; ".join(f"{name} = names[{name!r}]" for name in names)
            timers = {what: timeit.Timer(text, setup, globals={"names": names}) for what, text in statements.items()}
            repeat = effort.many(_REPEAT)
            found = in_turns(
                {what: functools.partial(_seconds_each, timer, repeat) for what, timer in timers.items()},
                effort.turns(_TURNS),
            )
            for view in (names["word"], names["slot"]):
                view.release()
    finally:
        remove_files_of(namespace)
    measured = {what: Measured(what, "µs", [one * 1e6 for one in turns]) for what, turns in found.items()}
    answer.measured.append(measured[_WHOLE])
    loop = measured[_EMPTY].median
    parts = {what: measured[what].median - loop for what in _PARTS}
    parts = dict(sorted(parts.items(), key=lambda item: -item[1]))
    rest = measured[_WHOLE].median - loop - sum(parts.values())
    answer.breakdowns.append(Breakdown(_WHOLE, "µs", parts | {"the rest of the interpreter": rest}))


def _seconds_each(timer: timeit.Timer, repeat: int) -> float:
    return timer.timeit(repeat) / repeat


def _names(writer: RingWriter, values: array[float]) -> dict[str, Any]:
    """The names that the statements use."""
    staging = writer._segment.staging
    offset = writer.header.slots_offset
    return {
        "append": writer.append,
        "values": values,
        "numbers": staging.numbers,
        "samples": staging.samples,
        "seal": staging._seal,
        "last": staging._last,
        "beat": len(staging._last) - 1,
        "payload": staging._payload,
        "digest": xxh3_64_intdigest,
        "sequence": writer.head,
        "salt": writer.header.salt,
        "clock": time.clock_gettime_ns,
        "boottime": time.CLOCK_BOOTTIME,
        "target": writer._segment.bytes,
        "offset": offset,
        "size": staging.slot_bytes,
        "word": writer._segment.bytes[offset : offset + 8],
        "slot": writer._segment.bytes[offset + 8 : offset + staging.slot_bytes],
        "hints": writer._segment.hints,
        "preadv": os.preadv,
        "fd": staging._fd,
    }
