"""The bytes are where the drawing says, and a header that can't be is refused with its field's name."""

from __future__ import annotations

import dataclasses

import pytest

import shm.ring.layout as layout
from shm.errors import RingCorrupt, RingError
from shm.files import ring_path
from shm.ring.layout import HEADER_BYTES, Header, read_header
from shm.ring.protocol import header_seal
from shm.ring.reader import RingReader
from tests.rings import INTERVAL_NS, append_proof, open_writer


def page_of(header: Header, **words: int) -> bytearray:
    """A first page as publish() writes it; ``words``: byte offset w123 = value, written after the seal was made."""
    page = bytearray(HEADER_BYTES)
    page[0:8] = b"FOGRING1"
    page[8:16] = (1).to_bytes(8, "little")
    page[16:24] = header.salt.to_bytes(8, "little")
    page[24:256] = header.immutable()
    for name, value in words.items():
        page[int(name[1:]) : int(name[1:]) + 8] = value.to_bytes(8, "little")
    return page


HEADER = Header("node", 8, 4, INTERVAL_NS, 1_700_000_000_000_000_000, 4096, 3, bytes(range(16)))


def test_a_header_reads_back_as_it_was_written() -> None:
    assert read_header("node", bytes(page_of(HEADER)), HEADER.segment_bytes) == HEADER


def test_sizes_and_offsets_follow_the_drawing() -> None:
    assert HEADER.slot_bytes == 48 + 8 * 4
    assert HEADER.slots_offset == 4096 + 4096
    assert HEADER.segment_bytes == 4096 + 4096 + 8 * 80
    assert [HEADER.slot_offset(s) for s in (1, 8, 9)] == [8192, 8192 + 7 * 80, 8192]


def test_a_published_segment_has_each_word_at_the_offset_that_the_drawing_names(namespace: str) -> None:
    with open_writer(namespace, columns=2) as writer:
        append_proof(writer, 3)
        data = ring_path(namespace, "s").read_bytes()
        header, used = writer.header, writer._catalog.used

    def word(offset: int) -> int:
        return int.from_bytes(data[offset : offset + 8], "little")

    assert data[:8] == b"FOGRING1"
    assert word(8) == 1
    assert word(16) == header_seal(data[24:256])
    assert [word(at) for at in (24, 32, 40, 48, 56, 64, 72)] == [
        len(data), header.capacity, header.width, INTERVAL_NS, header.created_ns, header.catalog_bytes, 0,
    ]  # fmt: skip
    assert data[80:96] == header.boot_id
    assert data[96:160] == b"s".ljust(64, b"\0")
    assert data[160:256] == bytes(96)
    assert word(512) == 3
    assert word(576) > 0
    assert word(640) > 0
    assert word(648) > 0
    assert word(704) == used
    slot = header.slot_offset(3)
    assert [word(slot + at) for at in (0, 16, 24, 32, 40)] == [3, 3_000_000_000, 3, 2, layout.FLAG_TICK]
    assert data[slot + 48 + 16 : slot + header.slot_bytes] == (0x7FF0_0000_0000_0002).to_bytes(8, "little") * 6


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        ({"w0": 0}, "magic is 0x0"),
        ({"w8": 2}, "layout version is 2, this program reads 1"),
        ({"w16": 1}, "header seal is 0x1"),
        ({"w32": 9}, "header seal"),
        ({"w40": 1 << 40}, "header seal"),
        ({"w200": 1}, "header seal"),
    ],
)
def test_a_damaged_header_is_refused_and_the_message_names_the_field(damage: dict[str, int], says: str) -> None:
    with pytest.raises(RingCorrupt, match=says):
        read_header("node", bytes(page_of(HEADER, **damage)), HEADER.segment_bytes)


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("capacity", 0, "capacity is 0"),
        ("capacity", (1 << 24) + 1, "capacity is 16777217"),
        ("width", 0, "width is 0"),
        ("width", (1 << 20) + 1, "width is 1048577"),
        ("interval_ns", 0, "interval is 0"),
        ("catalog_bytes", 4097, "catalog bytes is 4097, not a multiple of 64"),
        ("catalog_bytes", 0, "catalog bytes is 0"),
        ("capacity", 9, "segment bytes is"),
        ("generation", (1 << 62) + 1, "generation is 4611686018427387905"),
    ],
)
def test_a_sealed_header_with_a_field_out_of_bounds_is_refused_by_name(field: str, value: int, says: str) -> None:
    claimed = dataclasses.replace(HEADER, **{field: value})  # type: ignore[arg-type]
    with pytest.raises(RingCorrupt, match=says):
        read_header("node", bytes(page_of(claimed)), HEADER.segment_bytes)


def test_a_source_that_is_not_text_is_refused() -> None:
    page = page_of(HEADER)
    page[96:98] = b"\xff\xfe"
    page[16:24] = header_seal(bytes(page[24:256])).to_bytes(8, "little")
    with pytest.raises(RingCorrupt, match="not UTF-8"):
        read_header("node", bytes(page), HEADER.segment_bytes)


def test_a_file_shorter_than_a_header_is_refused() -> None:
    with pytest.raises(RingCorrupt, match="the file has 3 bytes"):
        read_header("node", b"abc", 3)


def test_a_big_endian_machine_is_refused(namespace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_writer(namespace, columns=2).close()
    monkeypatch.setattr("sys.byteorder", "big")
    for use in (lambda: RingReader(namespace, "s"), lambda: open_writer(namespace)):
        with pytest.raises(RingError, match="this machine is big-endian"):
            use()
