"""Attack I1 across machines: this one and an emulated arm64 write alike segments, read and resume each other's.

This concerns byte order, alignment, page size, numbers of flags, bits of NaNs and another build of XXH3. It does
**not** concern the order in which stores become visible: the emulator runs arm64 code on this machine's processor, and
a reader's pread is this machine's kernel. The check ``model`` covers order. A big-endian machine, s390x, must refuse
the rings of the others.

Both sides run tests/siege/emulated/program.py; this module gives the orders and compares.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
from collections import Counter
from typing import Any, Final

import pytest

from shm.files import ring_path
from shm.ring.layout import HEADER_BYTES, WORD_HEARTBEAT, WORD_PID, WORD_PID_NAMESPACE, WORD_PID_START
from tests.siege.emulated.userlands import ARM64, HOW_TO_GET_EMULATORS, HOW_TO_MAKE, S390X, Userland, userland
from tests.siege.hardware.check import COLUMNS
from tests.siege.hardware.side import Side, side
from tests.siege.harness import ROOT, Counts, Effort, Mutant, Violation, own_namespace, require

# What holds between this machine and the emulated one is always tried; the others are parts of their own.
PARTS: Final = ("border", "pages", "order")
_PAGES: Final = (16_384, 65_536)  # the other pages of arm64 kernels
_SOURCE: Final = "s"
_ROWS: Final = 21  # per order to write: the ring of 8 slots lapped twice, and not a multiple of it
_PROGRAM: Final = ("-m", "tests.siege.emulated.program")
_ASKS_FOR_THE_PAGE: Final = re.compile(r"PAGESIZE|ALLOCATIONGRANULARITY|getpagesize|SC_PAGE_?SIZE|mmap\([^)]*offset=")

# These words tell the writer's process and the moment; all others must not depend on the machine.
_OWN_WORDS: Final = (WORD_HEARTBEAT, WORD_PID, WORD_PID_START, WORD_PID_NAMESPACE)


def check(effort: Effort) -> Counts:
    arm64, s390x = _arm64(), userland(S390X) if effort.part in ("", "order") else None
    pages = _PAGES if effort.part in ("", "pages") else ()
    counts: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        mine, theirs = (stack.enter_context(own_namespace()) for _ in range(2))
        # All are started before the first is asked.
        here = stack.enter_context(side("this machine", [sys.executable, *_PROGRAM]))
        there = stack.enter_context(side("arm64", arm64.command(*_PROGRAM)))
        others = [
            stack.enter_context(side(f"arm64 with {size}-byte pages", arm64.command(*_PROGRAM, page_bytes=size)))
            for size in pages
        ]
        for one, machine in ((here, None), (there, "aarch64")):
            about = one.ask("about")
            require(about["byteorder"] == "little", f"{one.name} is {about['byteorder']}-endian")
            require(machine in (None, about["machine"]), f"the emulated machine is {about['machine']}")
        counts["seals alike"] = _same_seals(here, there, effort.seed)
        _no_link_is_followed(here, there, mine, theirs)
        for columns in COLUMNS:
            _to_and_fro(here, there, mine, theirs, columns, counts)
            for writes in (there, here):
                _race(here, there, writes, mine, columns, effort.seconds(0.15, 16), counts)
        if s390x:
            big_endian = stack.enter_context(side("s390x", s390x.command("-m", "tests.siege.emulated.big_endian")))
            counts["refused on big-endian s390x"] = _big_endian_is_refused(big_endian, mine)
        _one_writer(here, there, mine)
        sizes = [there.ask("about")["page_bytes"]]
        for one, size in zip(others, pages, strict=True):
            if not _has_pages(one, size):
                continue
            sizes.append(size)
            for columns in COLUMNS:
                _to_and_fro(here, one, mine, theirs, columns, counts)
                _race(here, one, one, mine, columns, effort.seconds(0.06, 3), counts)
        machine = f"aarch64 with Python {there.ask('about')['python']}, emulated; {here.ask('about')['machine']}"
    for path in sorted((ROOT / "shm").rglob("*.py")):  # for emulators that offer no other page
        found = _ASKS_FOR_THE_PAGE.search(path.read_text())
        require(not found, f"{path.name} depends on the machine's page: {found and found[0]}")
    return {
        **counts,
        "pages of bytes": ", ".join(f"{size:,}" for size in sizes),
        "machines": machine,
    }


# ---- the machines ----------------------------------------------------------------------------------------------


def _arm64() -> Userland:
    if ARM64.emulator() is None:
        pytest.skip(f"{ARM64.emulators[0]} is not installed: {HOW_TO_GET_EMULATORS}")
    found = userland(ARM64)
    if found is None:
        pytest.skip(f"there is no userland of {ARM64.name} in {ARM64.folder()}: {HOW_TO_MAKE}")
    return found


def _has_pages(one: Side, size: int) -> bool:
    """Newer emulators refuse another page than the host's: then the program has ended at once."""
    try:
        return bool(one.ask("about")["page_bytes"] == size)
    except AssertionError:
        if one.process.wait(60) == 0 or "page" not in one.said().lower():
            raise
        return False


# ---- comparisons -----------------------------------------------------------------------------------------------


def _big_endian_is_refused(one: Side, namespace: str) -> int:
    """Check that every use of a little-endian ring is refused by name; how many there are."""
    before = ring_path(namespace, _SOURCE).read_bytes()
    answer = one.ask("open", namespace=namespace, source=_SOURCE)
    require(answer["byteorder"] == "big", f"{one.name} is {answer['byteorder']}-endian")
    uses = ("read", "write", "begin")
    for use in uses:
        require("big-endian" in answer[use], f"on {one.name} the error of {use} was {answer[use]!r}")
    require(ring_path(namespace, _SOURCE).read_bytes() == before, f"{one.name} changed a ring that it can't read")
    require(not ring_path(namespace, f"{_SOURCE}-new").exists(), f"{one.name} made a ring")
    return len(uses)


def _same_seals(here: Side, there: Side, seed: int) -> int:
    ours, others = here.ask("seals", seed=seed)["seals"], there.ask("seals", seed=seed)["seals"]
    unlike = [i for i, (mine, other) in enumerate(zip(ours, others, strict=True)) if mine != other]
    require(not unlike, f"the seals {unlike[:5]} differ between {here.name} and {there.name}")
    return len(ours)


def _no_link_is_followed(here: Side, there: Side, mine: str, theirs: str) -> None:
    """The flags of open(2) have the same names on all machines, and other numbers."""
    here.ask("write", namespace=mine, source=_SOURCE, columns=1, frames=1)
    link = ring_path(theirs, _SOURCE)
    link.symlink_to(ring_path(mine, _SOURCE))
    for one in (here, there):
        opened = one.ask("follows", namespace=theirs, source=_SOURCE)["opened"]
        require(not opened, f"on {one.name} a reader followed a symbolic link under a ring's name (I8)")
    link.unlink()


def _to_and_fro(here: Side, there: Side, mine: str, theirs: str, columns: int, counts: Counter[str]) -> None:
    """Two rings, each begun on one machine: alike to the bit, also after each was resumed on the other."""
    begun_on, other_than = {mine: here, theirs: there}, {mine: there, theirs: here}
    ring: dict[str, Any] = {"source": _SOURCE, "columns": columns}
    for namespace, one in begun_on.items():
        ring_path(namespace, _SOURCE).unlink(missing_ok=True)
        one.order("write", namespace=namespace, frames=_ROWS, **ring)
    for one in begun_on.values():
        one.answer()
    _alike(mine, theirs, "written", counts)
    for namespace, one in other_than.items():
        one.ask("alignment", namespace=namespace, source=_SOURCE)
        _holds_the_last(one, namespace, _ROWS, ring)
        found = one.ask("write", namespace=namespace, frames=_ROWS, **ring)
        got = found["head"], found["resumed"]
        require(got == (_ROWS, 8), f"{one.name} resumed at head {got[0]} with {got[1]} frames, not {_ROWS} and 8 (I3)")
        counts["rings resumed across the border"] += 1
    _alike(mine, theirs, "resumed", counts)
    for namespace, one in other_than.items():
        one.ask("widen", namespace=namespace, width=2 * columns + 9, **ring)
    _alike(mine, theirs, "rebuilt", counts)
    for namespace, one in begun_on.items():
        _holds_the_last(one, namespace, 2 * _ROWS, ring)


def _holds_the_last(one: Side, namespace: str, newest: int, ring: dict[str, Any]) -> None:
    got = one.ask("read", namespace=namespace, **ring)["sequences"]
    due = list(range(newest - 7, newest + 1))
    require(got == due, f"on {one.name} the ring holds the frames {got}, not {due}")


def _alike(mine: str, theirs: str, done: str, counts: Counter[str]) -> None:
    """Raise Violation at the first word that differs between the two segments."""
    ours, others = (bytearray(ring_path(namespace, _SOURCE).read_bytes()) for namespace in (mine, theirs))
    for segment in (ours, others):
        for word in _OWN_WORDS:
            segment[8 * word : 8 * word + 8] = bytes(8)
    if ours != others:
        at = next(i for i, (a, b) in enumerate(itertools.zip_longest(ours, others)) if a != b) & ~7
        where = "of the header" if at < HEADER_BYTES else "of the segment"
        a, b = (int.from_bytes(segment[at : at + 8], "little") for segment in (ours, others))
        raise Violation(f"two segments {done} on two machines differ in the word at {at} {where}: {a:#x} and {b:#x}")
    counts["segments alike to the bit"] += 1


def _one_writer(here: Side, there: Side, namespace: str) -> None:
    for holds, comes in ((here, there), (there, here)):
        pid = holds.ask("hold", namespace=namespace, source=_SOURCE, columns=COLUMNS[-1])["pid"]
        refused = comes.ask("holder", namespace=namespace, source=_SOURCE)["pid"]
        require(refused == pid, f"process {pid} writes on {holds.name}; {comes.name} was refused by {refused} (I5)")
        holds.ask("release")


def _race(
    here: Side, there: Side, writes: Side, namespace: str, columns: int, seconds: float, counts: Counter[str]
) -> None:
    """One machine writes flat out; readers of both read."""
    for one in (here, there):
        one.order(
            "race", namespace=namespace, source=_SOURCE, columns=columns, seconds=seconds, frames=1 << 40,
            readers=1 if one is writes else 2, writes="in order" if one is writes else "",
        )  # fmt: skip
    for one in (here, there):
        counts.update(one.answer(after=seconds))


_MUTANTS = (
    Mutant(
        "emulated", "an absent sample is made by arithmetic, whose NaN has another sign on arm64",
        "shm.ring.layout:ABSENT",
        patch='fault = struct.pack("<d", float("inf") - float("inf"))',
        says="differ in the word", scale=0.2, part="border",
    ),
    Mutant(
        "emulated", "a flag of open(2) by the number that it has on x86", "shm.files:open_segment",
        code="os.O_NOFOLLOW", becomes="0o400000",
        says="on arm64 a reader followed a symbolic link", scale=0.2, part="border",
    ),
    Mutant(
        "emulated", "the catalog takes whole pages of the machine", "shm.ring.lifecycle:shape",
        code="64", becomes='os.sysconf("SC_PAGESIZE")', says="page", scale=0.2, part="border",
    ),
    Mutant(
        "emulated", "a slot is looked for half a word on", "shm.ring.layout:Header.slot_offset",
        patch="def fault(self, sequence): return original(self, sequence) + 4",
        says="not aligned", scale=0.2, part="border",
    ),
    Mutant(
        "emulated", "a reader takes what it finds", "shm.ring.frame:prove",
        code="found != sequence or frame_seal(view[SLOT_PAYLOAD:], sequence, salt) != seal", becomes="False",
        says="was accepted with", scale=0.2, part="border",
    ),
)  # fmt: skip
_OF_BYTE_ORDER = (
    Mutant(
        "emulated", "no byte order is refused", "shm.ring.layout:check_byte_order",
        patch="def fault(ring): pass", says="on s390x the error of read was", scale=0.2, part="order",
    ),
)  # fmt: skip
# A mutant that this host can't see must not be tried.
MUTANTS: tuple[Mutant, ...] = _MUTANTS + (_OF_BYTE_ORDER if userland(S390X) else ())
