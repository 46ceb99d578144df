"""The ring protocol: how one writer and any number of readers share a day of frames without a lock.

This docstring is the specification. :mod:`shm.ring.layout` draws the bytes, :mod:`shm.ring.writer` and
:mod:`shm.ring.reader` implement the protocol. Comments, tests and documentation cite the invariants by number.

Theory of operation
===================

A **segment** is one file in /dev/shm that belongs to one source:

    header (one page) | catalog (append-only) | slots (capacity × one row)

A **frame** is a row: all samples of one collection. Frames are numbered from 1 by a **sequence** that is never
reused within a segment; sequence s lives in **slot** (s − 1) mod capacity, so a new frame laps the oldest one.

The writer appends frame s:

    A1  slot.sequence = 0             the slot belongs to no frame
    A2  timestamp, monotonic, count, flags, values
    A3  slot.seal = XXH3-64(A2's bytes, seeded with s and the segment's salt)
    A4  slot.sequence = s
    A5  header.head = s, header.heartbeat = now

The writer stages the frame with its seal in its own memory, and the kernel copies it into the map, A1 to A5 in this
order, by one preadv (:mod:`shm.ring.staging`): if the file has lost the page, the call fails, without a SIGBUS. A
reader reads frame s:

    R1  h = header.head               a hint; it may lag, lead or lie
    R2  copy = the slot's bytes       one private copy, by the kernel (:mod:`shm.ring.read_only_map`); all later
                                      steps read only the copy
    R3  accept when copy.sequence == s and copy.seal == XXH3-64(the rest of the copy, seeded with s)

R3 alone proves a frame. The seal covers the payload by its bytes and the sequence by its seed; a copy that mixes
two frames, in whatever order their stores became visible, matches neither seal (but for an accident of 1 in 2⁶⁴). No
step relies on x86 store order, on fences that Python does not have, or on the interpreter lock.

The next writer resumes behind the highest number that was published, even if that frame is damaged by then: a reader
that has proven the frame would take its number for it. Where it finds frames lost, it raises header.repairs, a hint at
which readers forget what they have proven.

A1 proves nothing: it makes most overlapped reads fail before their seal is computed. If stores become visible in
another order: with A4 before A2/A3, the copy's seal does not hold, and the reader skips the frame. With A5 before A4,
the head's slot has no frame yet. Then, and with a wrong hint, the reader looks at each slot's sequence, once.

The catalog grows by whole entries: body and seal (seeded with the entry's offset), then header.catalog_used, also a
hint. A reader reads entries from the start for as long as their seals hold. A frame's ``count`` is the number of
columns that existed when it was appended; a column at or beyond it is absent in that frame. So a catalog that names
fewer columns than a proven frame counts is damaged, and the next writer rebuilds the segment: otherwise a new series
would find old samples in its column.

States of a segment
===================

    state         name on disk                  what other processes do
    ------------  ----------------------------  -------------------------------------------------------------
    building      fogmetrics.NS.SOURCE.new      readers ignore it; the source's next writer removes it under the
                                                lock
    published     fogmetrics.NS.SOURCE.ring     readers read it: header whole, magic written last, memory reserved
    replaced      (unlinked by rename)          readers see that the name leads to another file, and open that
    set aside     fogmetrics.NS.SOURCE.corrupt  nothing: a writer could not read it, and created a new one
                  fogmetrics.NS.SOURCE.layout-N nothing: a segment of another release, layout version N; kept
    orphaned      fogmetrics.NS.SOURCE.ring     readers read its history, which is stale: no writer holds the lock;
                                                the next writer resumes it
    harmed        fogmetrics.NS.SOURCE.ring     removed, cut, holed, extended, or its header overwritten by another
                                                process: the writer notices before it appends, and publishes the
                                                frames that are left

States of a slot in a reader's copy
===================================

    copy.sequence   seal    name      what the reader does
    --------------  ------  --------  ------------------------------------------------------------
    s               holds   whole     accepts it as frame s
    s               broken  torn      skips and counts it; never reads it a second time (I4)
    0               any     torn      the same: the slot is being written, or its writer died while writing
    > s             any     lapped    skips and counts it: a newer frame is in the slot
    other           any     empty     skips it

Torn and lapped slots are normal when a reader copies a day of frames while the writer appends.

The invariants
==============

I1  A reader accepts only frames that were appended, bit for bit.
I2  The writer is wait-free: append has no loop, lock or wait that depends on a reader.
I3  SIGKILL of the writer at any instruction loses at most the frame in flight. The next writer resumes at
    head + 1 with the history intact.
I4  A reader never spins: a slot that is not whole is skipped and counted.
I5  One writer: a second start fails at once and names the holder's pid. The writer holds ``fcntl.lockf`` for life on a
    separate 0600 file that is never replaced or removed while the segment may be written.
I6  An incomplete segment is never taken for a whole one: temporary name, magic last, publish by rename.
I7  No access beyond reserved memory, and no SIGBUS: ``posix_fallocate`` before the first store; only the kernel
    touches a map: it copies into the writer's and out of the readers'. No fogmetrics process truncates a segment in
    place; if another process does, no process of fogmetrics dies.
I8  A reader can't write: it opens O_RDONLY and maps PROT_READ. It changes no byte; at most it fills a hole with
    zeros, if the hole was made between the check for holes and the copy. It never unlinks a segment, however it ends.
I9  Corrupt or foreign bytes anywhere in a segment affect that ring only.

Assumptions
===========

* One writer thread per ring: ``append`` must not be called by two threads at once.
* The words that readers read outside a seal, head, heartbeat, pid and catalog_used, are hints: a reader that sees a
  half-written hint looks in the wrong place once, and accepts only sealed data. Even so, ``struct.pack_into`` must not
  be used on shared words: it writes zeros first, and readers see them (prometheus/client_python#315).
* All words are little-endian; on a big-endian machine, opening a segment is an error.
* The wall clock may step: frames are ordered by sequence, time ranges select by timestamp.
"""

from __future__ import annotations

from xxhash import xxh3_64_intdigest

_MASK = 0xFFFF_FFFF_FFFF_FFFF


def frame_seal(payload: bytes | bytearray | memoryview, sequence: int, salt: int) -> int:
    """XXH3-64 of a slot's bytes after the seal, seeded with sequence and salt.

    ``salt`` is the seal of the segment's immutable header, so that a slot copied from another segment fails its seal.
    Source: https://github.com/Cyan4973/xxHash (XXH3, seeded).
    """
    return xxh3_64_intdigest(payload, sequence ^ salt)


def entry_seal(payload: bytes | memoryview, offset: int, salt: int) -> int:
    """XXH3-64 of a catalog entry's bytes, seeded with its offset, so that a moved entry fails its seal."""
    # Offsets and sequences are both small numbers: the multiplier makes their seeds differ under the same salt.
    return xxh3_64_intdigest(payload, (offset * 0x9E37_79B9_7F4A_7C15 & _MASK) ^ salt)


def header_seal(immutable: bytes | memoryview) -> int:
    """XXH3-64 of the header's immutable part. It is also the segment's salt."""
    return xxh3_64_intdigest(immutable, 0)
