"""The parts of the exporter's work, and the rules that assign a stack to one of them.

A stack is searched from the innermost frame outwards, and the first matching rule decides. If no rule matches a frame,
it is a helper, and its caller is searched. A frame of our own code that belongs to no part ends the search, so that it
is not counted for its caller.

Work of the kernel outside of system calls, such as page faults, counts for the part that caused it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from benchmarks.pyspy import Stack

WAKING: Final = "kernel: sleeping and waking (epoll)"
REST: Final = "the rest"
_SOCKETS: Final = "kernel: sockets"
_FILES: Final = "kernel: reading rings (pread, stat)"
_MEMORY: Final = "kernel: handing memory back"
_READING: Final = "reading rings, in Python"
_PROVING: Final = "proving frames (XXH3)"
_TRANSPOSING: Final = "transposing"
_ORDER: Final = "order statistics"
_SUMS: Final = "sums"
_DIGITS: Final = "digits (orjson)"
_CUTTING: Final = "cutting the digits apart"
_FILLING: Final = "filling them into the page"
_LINES: Final = "choosing the lines and their values"
_SERVING: Final = "HTTP, event loop, server"

RULES: Final[tuple[tuple[str, re.Pattern[str]], ...]] = tuple(
    (part, re.compile(pattern))
    for part, pattern in (
        # System calls, as the C library has them.
        (_SOCKETS, r"^(writev?|send\w*|readv?|recv\w*|accept4?|epoll_ctl|shutdown|close) \(libc"),
        (_FILES, r"^(p?(read|write)v?64(v2)?|p(read|write)v?|fstat\w*|l?stat\w*|open\w*|getdents64) \(libc"),
        (_MEMORY, r"^(munmap|mmap\w*|madvise|brk|mremap) \(libc"),
        # Libraries that do one thing.
        (_DIGITS, r"\(orjson/"),
        (_PROVING, r"^XXH|\(_?xxhash"),
        (_ORDER, r"qsort|partition_unrolled|quickselect"),
        # Ours.
        (_PROVING, r"^frame_seal \(|<listcomp> \(shm/ring/windows"),
        (_CUTTING, r"^numbers \(exporter/exposition/format"),
        (_FILLING, r"^fill \(exporter/exposition/format|\(exporter/exposition/template"),
        (_TRANSPOSING, r"^(transposed|columns_of) \(exporter/window/statistics"),
        (_SUMS, r"^tally \(exporter/window/statistics|\(exporter/window/incremental/blocks"),
        (_ORDER, r"\(exporter/window/incremental/bands|^_statistics \(exporter/window/statistics"),
        (_READING, r"\(shm/|\(exporter/(rings|window/ring_window)"),
        (_LINES, r"\(exporter/(exposition|window)"),
        (_SERVING, r"\(exporter/(http/|app|layouts|selfmetrics|status)"),
        (REST, r"\(exporter/"),
        (_SERVING, r"\(loop\.c|\(uvloop/|^uv_|\((h11|uvicorn|starlette|asyncio)/"),
    )
)


def part_of(stack: Stack) -> str:
    """The part to which a stack belongs."""
    for frame in reversed(stack):
        for part, pattern in RULES:
            if pattern.search(frame):
                return part
    return REST


def shares(stacks: Mapping[Stack, int]) -> dict[str, float]:
    """The share of each part in the samples, the largest first and the rest last."""
    met: Counter[str] = Counter()
    for stack, count in stacks.items():
        met[part_of(stack)] += count
    found = {part: count / met.total() for part, count in met.most_common() if part != REST}
    return found | {REST: met[REST] / met.total()}
