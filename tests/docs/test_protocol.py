"""docs/protocol.md against shm/ring/layout.py and shm/ring/protocol.py: offsets, seals, invariants."""

from __future__ import annotations

import re
import struct

from shm.ring import layout, protocol
from shm.ring.layout import Header
from tests.docs.markdown import ROOT, read, table

PAGE = read("docs/protocol.md")
HEADER = Header("demo", 8, 8, 15 * 10**9, 1_700_000_000 * 10**9, 4096, 1, bytes(range(16)))


def test_the_mutable_words_of_the_header_are_where_the_page_says() -> None:
    rows = {row["constant"]: int(row["offset"]) for row in table(PAGE, "offset", "bytes", "header field", "constant")}
    words = {name: 8 * value for name, value in vars(layout).items() if name.startswith("WORD_")}
    assert {name: offset for name, offset in rows.items() if name.startswith("WORD_")} == words


def test_the_immutable_fields_of_the_header_are_where_the_page_says() -> None:
    page = bytes(layout.IMMUTABLE_START) + HEADER.immutable()
    assert len(page) == layout.IMMUTABLE_END == 256
    for row in table(PAGE, "offset", "bytes", "header field", "constant"):
        if row["constant"].startswith("WORD_"):
            continue
        raw = page[int(row["offset"]) : int(row["offset"]) + int(row["bytes"])]
        value = getattr(HEADER, row["constant"])
        if isinstance(value, int):
            assert int.from_bytes(raw, "little") == value, row
        else:
            wanted = value.encode() if isinstance(value, str) else value
            assert raw == wanted.ljust(int(row["bytes"]), b"\0"), row


def test_the_slot_is_as_the_page_says() -> None:
    offsets = [int(row["offset"]) for row in table(PAGE, "offset", "bytes", "slot field")]
    assert offsets == [
        0,
        layout.SLOT_SEAL,
        layout.SLOT_PAYLOAD,
        24,
        32,
        40,
        layout.SLOT_HEADER_BYTES,
    ]
    assert layout.SLOT_HEADER.size == layout.SLOT_HEADER_BYTES == 48
    assert (layout.FLAG_TICK, layout.FLAG_CLOCK_STEP) == (1, 2)
    assert f"`{layout.STALE_NAN_BITS:#018x}`" in PAGE


def test_the_entry_is_as_the_page_says() -> None:
    rows = table(PAGE, "offset", "bytes", "entry field")
    assert [row["offset"] for row in rows] == ["0", "4", "8", str(layout.ENTRY_HEADER.size)]
    kinds = f"{layout.KIND_METRIC} metric, {layout.KIND_SERIES} series, {layout.KIND_LIMIT} limit"
    assert kinds in rows[1]["entry field"]


def test_the_test_vectors_are_what_the_code_seals() -> None:
    payload = struct.pack("<qqQQd", 1_700_000_000 * 10**9, 123_456_789, 1, 1, 0.5)
    payload += 7 * layout.STALE_NAN_BITS.to_bytes(8, "little")
    assert f"`0x{HEADER.salt:016x}`" in PAGE
    assert f"`0x{protocol.frame_seal(payload, 1, HEADER.salt):016x}`" in PAGE


def test_every_invariant_is_on_the_page_and_has_its_section_of_tests() -> None:
    specified = set(re.findall(r"^(I\d+)  ", protocol.__doc__ or "", re.MULTILINE))
    rows = table(PAGE, "invariant", "promise", "test")
    assert {row["invariant"] for row in rows} == specified
    for row in rows:
        assert re.search(rf"^# -+ {row['invariant']}: ", (ROOT / row["test"]).read_text(), re.MULTILINE), row


def test_the_steps_of_append_and_read_are_those_of_the_specification() -> None:
    for step in re.findall(r"^    ([AR]\d)  ", protocol.__doc__ or "", re.MULTILINE):
        assert re.search(rf"^{step}  ", PAGE, re.MULTILINE), step
