"""Bad bytes: what accidents and adversaries make of a segment. Functions of bytes, without I/O.

An **accident** changes bytes and knows nothing of seals: what is served afterwards must be what was appended. A
**forgery** seals again what it changed. Nobody is promised that it is found out, but it must not crash, stall or bloat
a reader, and must not cost another ring.
"""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from shm.ring.layout import (
    ENTRY_HEADER,
    HEADER_BYTES,
    IMMUTABLE_END,
    IMMUTABLE_START,
    LAYOUT_VERSION,
    MAGIC,
    SLOT_HEADER_BYTES,
    SLOT_PAYLOAD,
    Header,
    aligned,
)
from shm.ring.protocol import entry_seal, frame_seal, header_seal

PAGE: Final = 4096
_WORD: Final = struct.Struct("<Q")
# As the error calls them, by their offset.
IDENTITY_FIELDS: Final = {"magic": 0, "layout version": 8, "header seal": 16}
SEALED_FIELDS: Final = {
    "segment bytes": 24, "capacity": 32, "width": 40, "interval": 48, "creation time": 56, "catalog bytes": 64,
    "generation": 72, "boot id": 80, "source": 96, "reserved": 160,
}  # fmt: skip
HINT_FIELDS: Final = {
    "head": 512, "heartbeat": 576, "pid": 640, "pid start": 648, "pid namespace": 656, "catalog used": 704,
}  # fmt: skip
SLOT_FIELDS: Final = {
    "sequence": 0, "seal": 8, "timestamp": 16, "monotonic": 24, "count": 32, "flags": 40, "value": 48,
}  # fmt: skip
_EXTREMES: Final = (
    0, 1, 2, 7, 8, 64, 255, 4096, 1 << 20, 1 << 24, 1 << 31, 1 << 32, 1 << 40, (1 << 62) + 1, (1 << 63) - 1, 1 << 63,
    (1 << 64) - 1, 0x7FF0_0000_0000_0002, 0x7FF8 << 48, 0xFFF0 << 48,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mutation:
    """The bytes of the victim's file. ``says``: a part of the error that it must be refused with, if it must be.

    ``single``: one place was changed, so that samples that are missing must be reported as skipped. ``hole``: (offset,
    bytes) to be punched; ``sparse``: a file size beyond the bytes.
    """

    kind: str
    name: str
    data: bytes
    forged: bool = False
    says: str = ""
    single: bool = False
    hole: tuple[int, int] | None = None
    sparse: int = 0


@dataclass(frozen=True, slots=True)
class Whole:
    """An undamaged segment: its bytes, header, and bytes of catalog in use."""

    data: bytes
    header: Header
    used: int

    @property
    def slots(self) -> int:
        return self.header.slots_offset

    def slot(self, index: int) -> int:
        return self.slots + index * self.header.slot_bytes

    def entries(self) -> list[tuple[int, int]]:
        """(offset in the catalog, body bytes) of each entry."""
        found, at = [], 0
        while at < self.used:
            size = ENTRY_HEADER.unpack_from(self.data, HEADER_BYTES + at)[0]
            found.append((at, size))
            at += aligned(ENTRY_HEADER.size + size, 8)
        return found


def word(data: bytes | bytearray, offset: int) -> int:
    return int(_WORD.unpack_from(data, offset)[0])


def put_word(data: bytearray, offset: int, value: int) -> None:
    _WORD.pack_into(data, offset, value & (1 << 64) - 1)


def reseal(data: bytearray, header: Header, *, sealed: bool = True) -> None:
    """Seal entries and slots again, as an adversary would, and the header if ``sealed``.

    The offsets are those of ``header``, whatever the bytes claim.
    """
    if len(data) < header.segment_bytes:
        return
    salt = header_seal(bytes(data[IMMUTABLE_START:IMMUTABLE_END])) if sealed else word(data, 16)
    put_word(data, 16, salt)
    at = 0
    while at + ENTRY_HEADER.size <= header.catalog_bytes:
        start = HEADER_BYTES + at
        size = int.from_bytes(data[start : start + 4], "little")
        if not 0 < size <= header.catalog_bytes - at - ENTRY_HEADER.size:
            break
        body = bytes(data[start + ENTRY_HEADER.size : start + ENTRY_HEADER.size + size])
        put_word(data, start + 8, entry_seal(bytes(data[start : start + 8]) + body, at, salt))
        at += aligned(ENTRY_HEADER.size + size, 8)
    for slot in range(header.capacity):
        reseal_slot(data, header.slots_offset + slot * header.slot_bytes, header.slot_bytes, salt)


def reseal_slot(data: bytearray, start: int, size: int, salt: int) -> None:
    sequence = word(data, start)
    if sequence:
        put_word(data, start + 8, frame_seal(bytes(data[start + SLOT_PAYLOAD : start + size]), sequence, salt))


def accused(data: bytes) -> str:
    """What the error must say of the header in ``data``; "" if the header is whole."""
    if word(data, 0) != MAGIC:
        return f"magic is {word(data, 0):#x}"
    if word(data, 8) != LAYOUT_VERSION:
        return f"layout version is {word(data, 8)},"
    if header_seal(data[IMMUTABLE_START:IMMUTABLE_END]) != word(data, 16):
        return f"header seal is {word(data, 16):#x}"
    return ""


# ---- accidents -----------------------------------------------------------------------------------------------


def changed_bytes(whole: Whole, places: Iterator[tuple[int, int]]) -> Iterator[Mutation]:
    """Each (offset, mask): that byte with those bits flipped."""
    for at, mask in places:
        data = bytearray(whole.data)
        data[at] ^= mask
        yield _accident("bytes flipped", f"byte {at} ^ {mask:#x}", data, single=True)


def every_bit(whole: Whole) -> Iterator[tuple[int, int]]:
    return ((at, 1 << bit) for at in range(len(whole.data)) for bit in range(8))


def every_used_byte(whole: Whole, chance: random.Random) -> Iterator[tuple[int, int]]:
    """Each byte that means something, with a random mask."""
    return ((at, chance.randrange(1, 256)) for part in _used(whole) for at in part)


def _used(whole: Whole) -> list[range]:
    return [range(768), range(HEADER_BYTES, HEADER_BYTES + whole.used + 16), range(whole.slots, len(whole.data))]


def fields(whole: Whole) -> dict[str, tuple[int, int]]:
    """Every field by name: (offset, bytes)."""
    header = {**IDENTITY_FIELDS, **SEALED_FIELDS, **HINT_FIELDS}
    found = {f"header {name}": (at, 8) for name, at in header.items()}
    for number, (at, _) in enumerate(whole.entries()):
        start = HEADER_BYTES + at
        found[f"entry {number} body bytes"] = (start, 4)
        found[f"entry {number} kind"] = (start + 4, 4)
        found[f"entry {number} seal"] = (start + 8, 8)
    for slot in range(whole.header.capacity):
        for name, at in SLOT_FIELDS.items():
            found[f"slot {slot} {name}"] = (whole.slot(slot) + at, 8)
    return found


def _wrong(right: int, limit: int) -> list[int]:
    """Extreme values and values near ``right``, without ``right`` itself."""
    return sorted({value & limit for value in (*_EXTREMES, right - 1, right + 1, 2 * right, ~right)} - {right})


def field_values(whole: Whole, *, header: bool) -> Iterator[Mutation]:
    """Every field of the header, or of entries and slots, set to every wrong value."""
    for name, (at, size) in fields(whole).items():
        if name.startswith("header ") != header:
            continue
        right = int.from_bytes(whole.data[at : at + size], "little")
        for value in _wrong(right, (1 << 8 * size) - 1):
            data = bytearray(whole.data)
            data[at : at + size] = value.to_bytes(size, "little")
            yield _accident("fields set", f"{name} = {value}", data, single=True)


def early_ends(whole: Whole) -> Iterator[Mutation]:
    """Each entry damaged together with the announced size, so that the catalog seems to end there."""
    for number, (at, _) in enumerate(whole.entries()):
        data = bytearray(whole.data)
        data[HEADER_BYTES + at + ENTRY_HEADER.size] ^= 0x10
        put_word(data, HINT_FIELDS["catalog used"], at)
        yield _accident("catalogs that end early", f"before entry {number}", data, single=True)


def ranges(whole: Whole, donors: list[bytes], chance: random.Random, number: int) -> Iterator[Mutation]:
    """Ranges zeroed, filled, moved, or taken from a donor: another ring, an older state, another generation."""
    data_bytes = len(whole.data)
    slot = whole.header.slot_bytes
    for _ in range(number):
        data = bytearray(whole.data)
        start = chance.choice((chance.randrange(data_bytes), chance.randrange(HEADER_BYTES + whole.used)))
        end = min(start + chance.choice((8, 64, slot, PAGE, chance.randrange(1, data_bytes))), data_bytes)
        what = chance.randrange(4)
        if what == 0:
            data[start:end] = bytes((chance.choice((0, 0, 0xFF)),)) * (end - start)
        elif what == 1:
            first, second = (whole.slot(i) for i in chance.sample(range(whole.header.capacity), 2))
            data[first : first + slot], data[second : second + slot] = (
                data[second : second + slot], data[first : first + slot],
            )  # fmt: skip
        elif what == 2:
            donor = chance.choice(donors)[:data_bytes].ljust(data_bytes, b"\0")
            if chance.randrange(4) == 0:
                start, end = chance.choice(((0, data_bytes), (0, HEADER_BYTES), (HEADER_BYTES, whole.slots),
                                            (whole.slots, data_bytes)))  # fmt: skip
            data[start:end] = donor[start:end]
        else:
            source = chance.randrange(data_bytes - (end - start) + 1)
            data[start:end] = whole.data[source : source + end - start]
        yield _accident(("ranges zeroed", "slots swapped", "bytes of another", "ranges moved")[what],
                        f"{start}…{end}", data)  # fmt: skip


def havoc(whole: Whole, chance: random.Random, number: int) -> Iterator[Mutation]:
    """Several changes at once, anywhere that means something."""
    used = _used(whole)
    words = list(fields(whole).values())
    for _ in range(number):
        data = bytearray(whole.data)
        for _ in range(chance.randrange(1, 9)):
            if chance.randrange(2):
                part = chance.choice(used)
                data[chance.choice(part)] = chance.randrange(256)
            else:
                at, size = chance.choice(words)
                value = chance.choice((chance.choice(_EXTREMES), chance.getrandbits(64)))
                data[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
        yield _accident("several changes", "havoc", data)


def sizes(whole: Whole, chance: random.Random, number: int) -> Iterator[Mutation]:
    """Cut short, extended, with holes: at every page, and at random."""
    whole_bytes = len(whole.data)
    wanted = [0, 1, 8, 255, 256, HEADER_BYTES - 1, *range(PAGE, whole_bytes, PAGE), whole_bytes - 1]
    wanted += [chance.randrange(whole_bytes) for _ in range(number)]
    for size in wanted:
        yield Mutation("cut short", f"{size} bytes", whole.data[:size], says=f"the file has {size}")
    for more in (1, 8, PAGE, 16 * PAGE, *(chance.randrange(1, 1 << 20) for _ in range(number // 4))):
        says = f"segment bytes is {whole_bytes}; the layout gives {whole_bytes}, the file has {whole_bytes + more}"
        yield Mutation("extended", f"{more} bytes more", whole.data, says=says, sparse=whole_bytes + more)
    for start in range(PAGE, whole_bytes, PAGE):
        data = whole.data[:start] + bytes(min(PAGE, whole_bytes - start)) + whole.data[start + PAGE :]
        yield Mutation("holes", f"page {start}", data, says="it has holes", hole=(start, PAGE))


def _accident(kind: str, name: str, data: bytearray, *, single: bool = False) -> Mutation:
    done = bytes(data)
    return Mutation(kind, name, done, says=accused(done), single=single)


# ---- forgeries -----------------------------------------------------------------------------------------------


def forged_headers(whole: Whole) -> Iterator[Mutation]:
    """Every sealed field with every wrong value, and all seals made to hold."""
    limits = {"capacity": 1 << 24, "width": 1 << 20, "interval": 1 << 62, "catalog bytes": 1 << 40}
    for name, at in SEALED_FIELDS.items():
        right = word(whole.data, at)
        for value in _wrong(right, (1 << 64) - 1):
            data = bytearray(whole.data)
            put_word(data, at, value)
            reseal(data, whole.header)
            says = ""
            if name in limits and not 0 < value <= limits[name]:
                says = f"{name} is {value}, not within 1…{limits[name]}"
            elif name == "catalog bytes" and value % 64:
                says = f"catalog bytes is {value}, not a multiple of 64"
            elif name in ("segment bytes", "capacity", "width", "catalog bytes"):
                says = "segment bytes is "
            elif name == "source":
                says = "source is "
            yield Mutation("headers sealed again", f"{name} = {value}", bytes(data), forged=True, says=says)
    yield from _forged_sizes(whole)


def _forged_sizes(whole: Whole) -> Iterator[Mutation]:
    """Headers that agree with themselves and with the file's size, and with nothing else."""
    for name, value in (("capacity", 0), ("capacity", 1 << 24), ("width", 0), ("width", 1 << 20), ("capacity", 1),
                        ("catalog bytes", 64), ("catalog bytes", 1 << 30), ("width", 4), ("capacity", 5)):  # fmt: skip
        data = bytearray(whole.data)
        put_word(data, SEALED_FIELDS[name], value)
        claimed = {one: word(data, SEALED_FIELDS[one]) for one in ("capacity", "width", "catalog bytes")}
        slot = SLOT_HEADER_BYTES + 8 * claimed["width"]
        size = HEADER_BYTES + claimed["catalog bytes"] + claimed["capacity"] * slot
        put_word(data, SEALED_FIELDS["segment bytes"], size)
        reseal(data, whole.header)
        says = f"{name} is 0, not within" if value == 0 else "it has holes" if size > len(data) + PAGE else ""
        done = bytes(data[:size])
        yield Mutation("headers sealed again", f"{name} = {value}, file of {size}", done, True, says, sparse=size)


def forged_slots(whole: Whole) -> Iterator[Mutation]:
    """Every field of a slot with every wrong value, sealed again; and the largest sequences."""
    for accident in field_values(whole, header=False):
        if accident.name.startswith("slot "):
            yield _forgery("frames sealed again", accident.name, bytearray(accident.data), whole)
    capacity = whole.header.capacity
    for slot, exponent in itertools.product(range(capacity), (31, 32, 53, 62, 63, 64)):
        data = bytearray(whole.data)
        sequence = (1 << exponent) - capacity
        sequence += (slot + 1 - sequence) % capacity
        for at in (whole.slot(slot), HINT_FIELDS["head"]):
            put_word(data, at, sequence)
        yield _forgery("frames sealed again", f"slot {slot} is of {sequence}", data, whole)


def _forgery(kind: str, name: str, data: bytearray, whole: Whole) -> Mutation:
    reseal(data, whole.header)
    return Mutation(kind, name, bytes(data), forged=True)


def forged_havoc(whole: Whole, chance: random.Random, number: int) -> Iterator[Mutation]:
    """Several changes in catalog and slots, then every seal made to hold."""
    for accident in havoc(whole, chance, number):
        data = bytearray(accident.data)
        if chance.randrange(8):
            data[:HEADER_BYTES] = whole.data[:HEADER_BYTES]  # else hardly any gets past the header
        reseal(data, whole.header, sealed=chance.randrange(8) > 0)
        yield Mutation("several changes, sealed again", accident.name, bytes(data), forged=True)
