"""The ring under an emulated arm64, and across the border: what one machine writes, the other reads and resumes.

What it is for: byte order, alignment, page size, the numbers of flags, the bits of NaNs, another build of XXH3. What it
is **not** for: the order in which stores become visible. The emulator runs arm64 code on this machine's processor, in
this machine's store order, and a reader's pread is this machine's kernel. That no order can break I1 is what ``model``
shows. And a big-endian machine, s390x, must refuse the rings of the others.

Both sides run tests/siege/emulated_program.py; this module gives the orders and compares.
"""

from __future__ import annotations

import ast
import itertools
import re
from typing import Any, Final

from shm.files import ring_path
from shm.ring.layout import HEADER_BYTES, WORD_HEARTBEAT, WORD_PID, WORD_PID_NAMESPACE, WORD_PID_START
from tests.siege.emulated.sides import PAGES, Side, Sides, sides
from tests.siege.emulated.userlands import S390X, userland
from tests.siege.harness import ROOT, Counts, Effort, Mutant, Violation, own_namespace, require

# What holds between this machine and the emulated one is always tried; the others are parts of their own.
PARTS: Final = ("border", "pages", "order")
WIDTHS: Final = (1, 16, 128, 4096)
_SOURCE: Final = "s"
_LAPS: Final = 21  # rows per order to write: the ring of 8 slots lapped twice, and not a multiple of it
_PAGES_ARE_ASKED_BY: Final = re.compile("^(PAGESIZE|ALLOCATIONGRANULARITY|getpagesize|SC_PAGE_?SIZE)$")

# Of the process that writes and the moment it does: all else must be the same whatever machine wrote it.
_OWN_WORDS: Final = (WORD_HEARTBEAT, WORD_PID, WORD_PID_START, WORD_PID_NAMESPACE)


def check(effort: Effort) -> Counts:
    same = {"seals": 0, "segments": 0, "resumed": 0}
    raced = {"appended": 0, "read": 0, "skipped": 0}
    sizes, order = PAGES if effort.part in ("", "pages") else (), effort.part in ("", "order")
    with own_namespace() as mine, own_namespace() as theirs, sides(sizes, big_endian=order) as machines:
        here, there = machines.here, machines.there
        _byte_orders(machines)
        same["seals"] = _same_seals(here, there, effort.seed)
        _no_link_is_followed(here, there, mine, theirs)
        for columns in WIDTHS:
            _to_and_fro(here, there, mine, theirs, columns, same)
            for writes in (there, here):
                _race(here, there, writes, mine, columns, effort.seconds(0.15, 16), raced)
        refused = _big_endian_is_refused(machines.big_endian, mine) if machines.big_endian else 0
        _one_writer(here, there, mine)
        for side, columns in itertools.product(machines.other_pages, WIDTHS):
            _to_and_fro(here, side, mine, theirs, columns, same)
            _race(here, side, side, mine, columns, effort.seconds(0.06, 3), raced)
    _no_code_knows_a_page()
    assert raced["appended"], "no frame was appended in any race"
    assert raced["read"], "no frame was read in any race"
    pages = [side.about["page_bytes"] for side in (there, *machines.other_pages)]
    return {
        "frames appended": raced["appended"],
        "frames read": raced["read"],
        # May be none, where this machine had no time to run two processes at once.
        **({"slots skipped": raced["skipped"]} if raced["skipped"] else {}),
        "row sizes": ", ".join(f"{columns:,}" for columns in WIDTHS),
        "pages of bytes": ", ".join(f"{size:,}" for size in pages),
        "segments alike to the bit": same["segments"],
        "rings resumed across the border": same["resumed"],
        "seals alike": same["seals"],
        **({"refused on big-endian s390x": refused} if refused else {}),
        "machines": f"{there.about['machine']} with Python {there.about['python']}, emulated; {here.name}",
    }


def _byte_orders(machines: Sides) -> None:
    here, there = machines.here, machines.there
    require(there.about["machine"] == "aarch64", f"the emulated machine says that it is {there.about['machine']}")
    for side in (here, there):
        require(side.about["byteorder"] == "little", f"{side.name} is {side.about['byteorder']}-endian")


def _big_endian_is_refused(side: Side, namespace: str) -> int:
    """How many uses of a little-endian ring were refused by name on a machine that is not."""
    before = ring_path(namespace, _SOURCE).read_bytes()
    answer = side.ask("open", namespace=namespace, source=_SOURCE)
    require(answer["byteorder"] == "big", f"{side.name} is {answer['byteorder']}-endian")
    uses = ("read", "write", "begin")
    for use in uses:
        require("big-endian" in answer[use], f"on {side.name} who would {use} was told {answer[use]!r}")
    require(ring_path(namespace, _SOURCE).read_bytes() == before, f"{side.name} changed a ring that it can't read")
    require(not ring_path(namespace, f"{_SOURCE}-new").exists(), f"{side.name} made a ring that nobody can read")
    return len(uses)


def _same_seals(here: Side, there: Side, seed: int) -> int:
    ours, others = here.ask("seals", seed=seed)["seals"], there.ask("seals", seed=seed)["seals"]
    require(len(ours) == len(others), "the two machines made another number of seals")
    for i, (mine, other) in enumerate(zip(ours, others, strict=True)):
        require(mine == other, f"seal {i} is {mine:#x} on {here.name} and {other:#x} on {there.name}")
    return len(ours)


def _no_link_is_followed(here: Side, there: Side, mine: str, theirs: str) -> None:
    """What the flags of open(2) are called is the same on all machines; their numbers are not."""
    here.ask("write", namespace=mine, source=_SOURCE, columns=1, frames=1)
    link = ring_path(theirs, _SOURCE)
    link.symlink_to(ring_path(mine, _SOURCE))
    for side in (here, there):
        opened = side.ask("follows", namespace=theirs, source=_SOURCE)["opened"]
        require(not opened, f"on {side.name} a reader followed a symbolic link under a ring's name (I8)")
    link.unlink()
    ring_path(mine, _SOURCE).unlink()


def _to_and_fro(here: Side, there: Side, mine: str, theirs: str, columns: int, same: dict[str, int]) -> None:
    """Two rings, each begun on one machine: alike to the bit, and still after each was resumed on the other."""
    begun_on, other_than = {mine: here, theirs: there}, {mine: there, theirs: here}
    ring: dict[str, Any] = {"source": _SOURCE, "columns": columns}
    for namespace, side in begun_on.items():
        ring_path(namespace, _SOURCE).unlink(missing_ok=True)
        side.order("write", namespace=namespace, frames=_LAPS, **ring)
    for side in begun_on.values():
        side.answer()
    _alike(here, there, mine, theirs, "written", same)
    for namespace, side in other_than.items():
        side.ask("alignment", namespace=namespace, source=_SOURCE)
        _holds_the_last(side, namespace, _LAPS, ring)
        found = side.ask("write", namespace=namespace, frames=_LAPS, **ring)
        got = found["head"], found["resumed"]
        require(got == (_LAPS, 8), f"{side.name} resumed at head {got[0]} with {got[1]} frames, not {_LAPS} and 8 (I3)")
        same["resumed"] += 1
    _alike(here, there, mine, theirs, "resumed", same)
    for namespace, side in other_than.items():
        side.ask("widen", namespace=namespace, width=2 * columns + 9, **ring)
    _alike(here, there, mine, theirs, "rebuilt", same)
    for namespace, side in begun_on.items():
        _holds_the_last(side, namespace, 2 * _LAPS, ring)


def _holds_the_last(side: Side, namespace: str, newest: int, ring: dict[str, Any]) -> None:
    got = side.ask("read", namespace=namespace, **ring)["sequences"]
    due = list(range(newest - 7, newest + 1))
    require(got == due, f"on {side.name} the ring holds the frames {got}, not {due}")


def _alike(here: Side, there: Side, mine: str, theirs: str, done: str, same: dict[str, int]) -> None:
    """Fails at the first byte that differs between the two segments, but for the words of process and moment."""
    ours, others = (bytearray(ring_path(namespace, _SOURCE).read_bytes()) for namespace in (mine, theirs))
    for segment in (ours, others):
        for word in _OWN_WORDS:
            segment[8 * word : 8 * word + 8] = bytes(8)
    if ours != others:
        at = next(i for i, (a, b) in enumerate(itertools.zip_longest(ours, others)) if a != b) & ~7
        where = "of the header" if at < HEADER_BYTES else "of the segment"
        a, b = (int.from_bytes(segment[at : at + 8], "little") for segment in (ours, others))
        raise Violation(
            f"two segments {done} alike, begun on {here.name} and on {there.name}, differ "
            f"in the word at offset {at} {where}: {a:#x} and {b:#x}"
        )
    same["segments"] += 1


def _no_code_knows_a_page() -> None:
    """For emulators that know no other page than the host's: nothing in shm/ asks how large a page is, nor maps a
    part of a file, which could begin within a page of another size.
    """
    for path in sorted((ROOT / "shm").rglob("*.py")):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            name = getattr(node, "id", getattr(node, "attr", getattr(node, "value", None)))
            if isinstance(name, str) and _PAGES_ARE_ASKED_BY.search(name):
                raise Violation(f"{path.name}:{node.lineno} asks for the machine's page: {name}")  # type: ignore[attr-defined]
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("mmap.mmap", "mmap", "np.memmap"):
                part = any(keyword.arg == "offset" for keyword in node.keywords)
                require(not part, f"{path.name}:{node.lineno} maps from an offset, which must be at a page")


def _one_writer(here: Side, there: Side, namespace: str) -> None:
    for holds, comes in ((here, there), (there, here)):
        pid = holds.ask("hold", namespace=namespace, source=_SOURCE, columns=WIDTHS[-1])["pid"]
        refused = comes.ask("holder", namespace=namespace, source=_SOURCE)["pid"]
        require(refused == pid, f"process {pid} writes on {holds.name}; {comes.name} was refused by {refused} (I5)")
        holds.ask("release")


def _race(
    here: Side, there: Side, writes: Side, namespace: str, columns: int, seconds: float, raced: dict[str, int]
) -> None:
    """One machine writes flat out; readers of both read."""
    for side in (here, there):
        side.order(
            "race", namespace=namespace, source=_SOURCE, columns=columns, seconds=seconds,
            readers=1 if side is writes else 2, writes=side is writes,
        )  # fmt: skip
    for side in (here, there):
        for what, count in side.answer(after=seconds).items():
            raced[what] += count


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
        patch="def fault(ring): pass", says="on s390x who would read was told", scale=0.2, part="order",
    ),
)  # fmt: skip
# By a file that is there or not: a mutant that nothing here can see must not be tried.
MUTANTS: tuple[Mutant, ...] = _MUTANTS + (_OF_BYTE_ORDER if userland(S390X) else ())
