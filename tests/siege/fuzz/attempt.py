"""One input of a fuzzer, as bytes, against whatever reads bytes of a segment. Raises Violation where one goes wrong.

byte 0    bits 0…1: what the rest is; bit 2: sealed again; bit 3: under readers that had it open;
              bit 4: with windows, /stats and /health
0 edits   u16 place, u8 length, that many bytes; and again         a damaged segment is scraped
1 entry   u8 kind, the rest its body                              an entry with a seal that holds is scraped
2 header  the first bytes of a page                               read_header
3 slot    the first bytes of a slot                               prove
"""

from __future__ import annotations

from shm.errors import RingError
from shm.metric import MAX_NAME
from shm.ring.frame import prove
from shm.ring.layout import HEADER_BYTES, KIND_SERIES, read_header
from tests.siege.fuzz.appended import FRAMES, VICTIM
from tests.siege.fuzz.besieged import Besieged
from tests.siege.fuzz.catalogs import with_entries
from tests.siege.fuzz.mutations import Mutation, Whole, accused, reseal
from tests.siege.harness import require

_BEHIND = (KIND_SERIES, b'{"m":4,"v":[],"c":8}')  # brings a metric that was taken in to a page


def edited(whole: Whole, edits: bytes, *, forged: bool) -> Mutation:
    """``whole`` with those edits."""
    data, at = bytearray(whole.data), 0
    while at + 3 <= len(edits):
        place, size = int.from_bytes(edits[at : at + 2], "little") % len(data), edits[at + 2]
        new = edits[at + 3 : at + 3 + size][: len(data) - place]
        data[place : place + len(new)] = new
        at += 3 + size
    if forged:
        reseal(data, whole.header)
    return Mutation("edits", edits.hex()[:MAX_NAME], bytes(data), forged, "" if forged else accused(bytes(data)))


def attempt(besieged: Besieged, data: bytes) -> None:
    if len(data) < 2:
        return
    whole = besieged.whole
    how, rest = data[0], data[1:]
    forged, attached = bool(how & 4), bool(how & 8)
    what = how & 3
    if what == 0:
        besieged.scrape(edited(whole, rest, forged=forged), attached=attached, deep=bool(how & 16))
    elif what == 1:
        mutation = with_entries(whole, repr(rest), [(rest[0] % 4 + 1, rest[1:]), _BEHIND])
        if mutation is not None:
            besieged.scrape(mutation, attached=attached, deep=bool(how & 16))
    elif what == 2:
        _header(whole, rest[:HEADER_BYTES], forged=forged)
    else:
        _slot(besieged, rest)


def _header(whole: Whole, start: bytes, *, forged: bool) -> None:
    page = bytearray(start + whole.data[len(start) : HEADER_BYTES])
    if forged:
        data = page + whole.data[HEADER_BYTES:]
        reseal(data, whole.header)
        page = data[:HEADER_BYTES]
    try:
        header = read_header(VICTIM, bytes(page), len(whole.data))
    except RingError as error:
        require(f"ring {VICTIM!r}" in str(error), f"the error does not name the ring: {error}")
        return
    require(header.segment_bytes == len(whole.data), f"a header of {header.segment_bytes} bytes was taken")
    require(forged or header == whole.header, f"a header was taken that nobody wrote: {header}")


def _slot(besieged: Besieged, start: bytes) -> None:
    whole = besieged.whole
    at = whole.header.slot_offset(FRAMES)
    right = whole.data[at : at + whole.header.slot_bytes]
    slot = (start + right[len(start) :])[: len(right)]
    frame = prove(slot, FRAMES, whole.header.salt)
    require((frame is not None) == (slot == right), "a slot was taken that nobody wrote, or refused that somebody did")
