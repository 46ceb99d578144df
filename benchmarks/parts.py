"""What the exporter does, in parts, and how to tell them in a stack.

A stack is looked through from the innermost frame outwards; of each frame the rules are asked in their order, and the
first that fits decides. A frame that none fits is something's helper: the frame that called it is asked. A frame of our
own that is in no part ends the search, so that it can't pass for its caller.

What the kernel does without being called, as when memory is touched for the first time, is with who touched it.
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
    """The part that was at work."""
    for frame in reversed(stack):
        for part, pattern in RULES:
            if pattern.search(frame):
                return part
    return REST


def shares(stacks: Mapping[Stack, int]) -> dict[str, float]:
    """Of the samples the share of each part, the greatest first and the rest last."""
    met: Counter[str] = Counter()
    for stack, count in stacks.items():
        met[part_of(stack)] += count
    found = {part: count / met.total() for part, count in met.most_common() if part != REST}
    return found | {REST: met[REST] / met.total()}
