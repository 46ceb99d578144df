"""One input of a fuzzer, as bytes, as a mutation that is scraped. Raises Violation where the exporter does not bear it.

byte 0    bit 0: what the rest is; bit 2: sealed again; bit 3: under readers that had the ring open;
              bit 4: with windows, /stats and /health
0 edits   u16 place, u8 length, that many bytes; and again         a damaged segment
1 entry   u8 kind, the rest its body                              a catalog entry with a seal that holds
"""

from __future__ import annotations

from shm.metric import MAX_NAME
from shm.ring.layout import KIND_SERIES
from tests.siege.fuzz.catalogs import with_entries
from tests.siege.fuzz.mutations import Mutation, Whole, accused, reseal
from tests.siege.fuzz.victim import Victim

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


def attempt(victim: Victim, data: bytes) -> None:
    if len(data) < 2:
        return
    how, rest = data[0], data[1:]
    if how & 1:
        mutation = with_entries(victim.whole, repr(rest), [(rest[0] % 4 + 1, rest[1:]), _BEHIND])
    else:
        mutation = edited(victim.whole, rest, forged=bool(how & 4))
    if mutation is not None:
        victim.scrape(mutation, attached=bool(how & 8), deep=bool(how & 16))
