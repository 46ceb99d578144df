"""The layout of a segment: its bytes, the constants that encode them, and the check of its header.

    offset   bytes   segment
    0        4096    header
    4096     C       catalog               C = header.catalog_bytes, a multiple of 64
    4096+C   N × S   slots                 N = header.capacity, S = 48 + 8 × header.width

All words are little-endian u64 at offsets divisible by 8. The header's mutable words have a cache line each,
so that the writer's stores do not slow a reader that polls another word.

    header: immutable, covered by its seal          header: mutable
    0    magic "FOGRING1", written last             512  head: newest sequence, a hint
    8    layout version                             576  heartbeat: CLOCK_BOOTTIME, ns
    16   seal over bytes 24…255                     640  writer pid, 0 after an orderly stop
    24   segment bytes                              648  writer start time, clock ticks since boot
    32   capacity, in slots                         656  writer's pid namespace, inode
    40   width, in columns                          704  catalog bytes used, a hint
    48   interval, ns                               768  repairs: how often a writer found lost frames, a hint
    56   creation time, Unix ns                     slot
    64   catalog bytes                              0    sequence
    72   generation: how often it was rebuilt       8    seal over bytes 16…
    80   boot id, 16 bytes                          16   timestamp, Unix ns (i64)
    96   source, 64 bytes, UTF-8, NUL-padded        24   monotonic, ns (i64)
    160  reserved, 0                                32   count: columns known to this frame
    256                                             40   flags
                                                    48   values, float64 × width

    catalog entry, padded to 8 bytes
    0    body bytes (u32) | kind (u32): 1 metric, 2 series, 3 limit
    8    seal over bytes 0…7 and the body
    16   body: JSON, UTF-8
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import dataclass, field
from typing import Final

from shm.errors import RingCorrupt, RingError, RingLayout
from shm.ring.protocol import header_seal

MAGIC: Final = int.from_bytes(b"FOGRING1", "little")
LAYOUT_VERSION: Final = 1

# The absent sample: the stale marker of Prometheus (model/value/value.go, StaleNaN). Its bit pattern differs from that
# of an ordinary NaN, which stays a legal value.
STALE_NAN_BITS: Final = 0x7FF0_0000_0000_0002
ABSENT: Final = STALE_NAN_BITS.to_bytes(8, "little")  # as stored in a slot

HEADER_BYTES: Final = 4096
IMMUTABLE_START: Final = 24
IMMUTABLE_END: Final = 256
SOURCE_BYTES: Final = 64
_IMMUTABLE: Final = struct.Struct("<QQQQQQQ16s64s96x")  # bytes 24…255; pack is used on private bytes only

# Index of the mutable words, in units of 8 bytes, for memoryview.cast("Q").
WORD_MAGIC: Final = 0
WORD_VERSION: Final = 1
WORD_SEAL: Final = 2
WORD_HEAD: Final = 512 // 8
WORD_HEARTBEAT: Final = 576 // 8
WORD_PID: Final = 640 // 8
WORD_PID_START: Final = 648 // 8
WORD_PID_NAMESPACE: Final = 656 // 8
WORD_CATALOG_USED: Final = 704 // 8
WORD_REPAIRS: Final = 768 // 8

SLOT_HEADER_BYTES: Final = 48
SLOT_SEAL: Final = 8
SLOT_PAYLOAD: Final = 16  # the bytes that the seal covers begin here
SLOT_HEADER: Final = struct.Struct("<QQqqQQ")  # sequence, seal, timestamp, monotonic, count, flags

ENTRY_HEADER: Final = struct.Struct("<IIQ")
KIND_METRIC: Final = 1
KIND_SERIES: Final = 2
KIND_LIMIT: Final = 3
KIND_FOLDED: Final = 4  # this and the next: only in tables, see shm.table.dead
KIND_REMOVED: Final = 5
MAX_ENTRY_BODY: Final = 64 * 1024  # a series with all labels at their limits takes less than 40 KiB

# Frame flags.
FLAG_TICK: Final = 1  # a whole collection: a series absent in this frame is absent now
FLAG_CLOCK_STEP: Final = 2  # the wall clock was set since the previous frame

MIN_CAPACITY: Final = 8  # of a writer: four guard slots, a frame in flight, and a few frames to read

# Limits of a header's fields, so that a corrupt header can't make a reader reserve memory without bound.
MAX_CAPACITY: Final = 1 << 24
MAX_WIDTH: Final = 1 << 20
MAX_SEGMENT_BYTES: Final = 1 << 40
# Ten frames a second reach it in ten billion years; larger numbers would overflow a signed word in arithmetic.
MAX_SEQUENCE: Final = 1 << 62


def is_absent(value: float) -> bool:
    """Whether a value is STALE_NAN, the marker of an absent sample; any other NaN is a sample."""
    return value != value and array("d", (value,)).tobytes() == ABSENT


@dataclass(slots=True)
class Header:
    """The immutable part of a segment's header, with the sizes that it determines. ``salt`` is its seal."""

    source: str
    capacity: int
    width: int
    interval_ns: int
    created_ns: int
    catalog_bytes: int
    generation: int
    boot_id: bytes
    slot_bytes: int = field(init=False)
    slots_offset: int = field(init=False)
    segment_bytes: int = field(init=False)
    salt: int = field(init=False)

    def __post_init__(self) -> None:
        self.slot_bytes = SLOT_HEADER_BYTES + 8 * self.width
        self.slots_offset = HEADER_BYTES + self.catalog_bytes
        self.segment_bytes = self.slots_offset + self.capacity * self.slot_bytes
        self.salt = header_seal(self.immutable())

    def immutable(self) -> bytes:
        """Bytes 24…255 of the header."""
        return _IMMUTABLE.pack(
            self.segment_bytes,
            self.capacity,
            self.width,
            self.interval_ns,
            self.created_ns,
            self.catalog_bytes,
            self.generation,
            self.boot_id,
            self.source.encode().ljust(SOURCE_BYTES, b"\0"),
        )

    def slot_offset(self, sequence: int) -> int:
        """The offset of that sequence's slot, in bytes from the start of the segment."""
        return self.slots_offset + (sequence - 1) % self.capacity * self.slot_bytes


def read_header(ring: str, page: bytes, file_bytes: int) -> Header:
    """Decode and check the header in ``page``, the first page of a segment.

    Raises RingCorrupt, naming the field and its value, unless all fields are possible in a whole segment of this layout
    and of ``file_bytes`` bytes (I6, I7, I9); RingLayout for another layout.
    """
    immutable = proven_header(ring, "segment", page, MAGIC, LAYOUT_VERSION, IMMUTABLE_END)
    fields = _IMMUTABLE.unpack(immutable)
    size, capacity, width, interval_ns, created_ns, catalog_bytes, generation, boot_id, raw = fields
    source = text_of(ring, "source", raw)
    for name, value, limit in (
        ("capacity", capacity, MAX_CAPACITY),
        ("width", width, MAX_WIDTH),
        ("interval", interval_ns, 1 << 62),
        ("catalog bytes", catalog_bytes, MAX_SEGMENT_BYTES),
    ):
        if not 0 < value <= limit:
            raise RingCorrupt(ring, f"{name} is {value}, not within 1…{limit}")
    if generation > MAX_SEQUENCE:
        raise RingCorrupt(ring, f"generation is {generation}, not within 0…{MAX_SEQUENCE}")
    if catalog_bytes % 64:
        raise RingCorrupt(ring, f"catalog bytes is {catalog_bytes}, not a multiple of 64")
    header = Header(source, capacity, width, interval_ns, created_ns, catalog_bytes, generation, boot_id)
    # The file must be exactly as large: only then can its allocated blocks prove that it has no hole (I7).
    if size != header.segment_bytes or size != file_bytes or size > MAX_SEGMENT_BYTES:
        raise RingCorrupt(
            ring, f"segment bytes is {size}; the layout gives {header.segment_bytes}, the file has {file_bytes}"
        )
    return header


def proven_header(ring: str, what: str, page: bytes, magic: int, layout_version: int, end: int) -> bytes:
    """The bytes of a header from IMMUTABLE_START to ``end``, if magic, layout version and seal are right.

    ``what``: the kind of file. Raises RingCorrupt, naming the field and its value; RingLayout for another layout.
    """
    check_byte_order(ring)
    if len(page) < HEADER_BYTES:
        raise RingCorrupt(ring, f"the file has {len(page)} bytes, less than its {HEADER_BYTES}-byte header")
    words = memoryview(page).cast("Q")
    if words[WORD_MAGIC] != magic:
        raise RingCorrupt(ring, f"magic is {words[WORD_MAGIC]:#x}, not {magic:#x}: not a fogmetrics {what}")
    version = words[WORD_VERSION]
    if version != layout_version:
        message = (
            f"layout version is {version}, this program reads {layout_version}; "
            f"run the same release on both sides, or remove the {what}"
        )
        # A version that no release will ever reach is damage.
        raise RingLayout(ring, message, version) if 0 < version < 256 else RingCorrupt(ring, message)
    immutable = page[IMMUTABLE_START:end]
    if header_seal(immutable) != words[WORD_SEAL]:
        raise RingCorrupt(ring, f"header seal is {words[WORD_SEAL]:#x}, the header's bytes give another")
    return immutable


def text_of(ring: str, field: str, padded: bytes) -> str:
    """The text of a header's field. Raises RingCorrupt, naming the field, if it is not UTF-8."""
    try:
        return padded.rstrip(b"\0").decode()
    except UnicodeDecodeError:
        raise RingCorrupt(ring, f"{field} is {padded[:16]!r}…, not UTF-8") from None


def check_byte_order(ring: str) -> None:
    """Raises RingError on a big-endian machine, which would misread every word."""
    if sys.byteorder != "little":
        raise RingError(ring, "this machine is big-endian; segments are little-endian, and there is no port yet")


def aligned(size: int, to: int) -> int:
    """``size`` rounded up to a multiple of ``to``."""
    return -(-size // to) * to
