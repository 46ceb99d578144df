"""The ring protocol: how one writer and any number of readers share a day of frames without a lock.

This page is the specification. :mod:`shm.ring.layout` draws its bytes, :mod:`shm.ring.writer` and
:mod:`shm.ring.reader` enforce it, and comments, tests and documentation cite the invariants below by their number.

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

The frame is staged in the writer's own memory, seal and all, and the kernel copies it into the map, A1 to A5 in this
order, by one preadv (:mod:`shm.ring.staging`): where the file has lost the page, that is an error of the call and no
SIGBUS. A reader takes a frame s:

    R1  h = header.head               a hint; it may lag, lead or lie
    R2  copy = the slot's bytes       one private copy, by the kernel (:mod:`shm.ring.read_only_map`); everything
                                      after works on the copy alone
    R3  accept when copy.sequence == s and copy.seal == XXH3-64(the rest of the copy, seeded with s)

R3 is the whole proof. The seal covers the payload by its bytes and the sequence by its seed; a copy that mixes
two frames, in whatever order their stores became visible, matches neither seal (up to a 2⁻⁶⁴ accident). No step
rests on x86 store order, on fences that Python does not have, or on the interpreter lock.

A1 is hygiene, not proof: it makes an overlapped read fail cheaply and often before its seal is computed. What
moves if the order is lost: A4 visible before A2/A3 gives a copy whose seal does not hold: skipped. A5 visible
before A4 gives a head whose slot is not there yet: the reader goes back by one. A hint that lies outright costs a
look at each slot's sequence, once.

The catalog grows by whole entries: body and seal (seeded with the entry's offset), then header.catalog_used, a hint
too. A reader takes entries from the start for as long as their seals hold. A frame carries in ``count`` how many
columns it knew; a column at or beyond it is absent in that frame. So a catalog that names fewer columns than a
proven frame knew is damaged, and the next writer rebuilds: no new series may find old samples in its column.

States of a segment
===================

    state         name on disk                  what others make of it
    ------------  ----------------------------  -------------------------------------------------------------
    building      fogmetrics.NS.SOURCE.new      nothing: readers look for ``.ring`` alone; the next writer of
                                                the source removes it under the lock
    published     fogmetrics.NS.SOURCE.ring     header whole, magic written last, all memory reserved
    replaced      (unlinked by rename)          readers see that the name leads elsewhere and open it again
    set aside     fogmetrics.NS.SOURCE.corrupt  nothing: a writer could not read it and began anew
                  fogmetrics.NS.SOURCE.layout-N nothing: of another release, whose layout has version N; kept
    orphaned      fogmetrics.NS.SOURCE.ring     no writer holds the lock: history readable, stale, to be resumed
    harmed        fogmetrics.NS.SOURCE.ring     removed, cut, holed, extended or its header overwritten by somebody:
                                                its writer sees it before it appends, and publishes what is left

States of a slot as a reader meets it
=====================================

    copy.sequence   seal    name      what the reader does
    --------------  ------  --------  ------------------------------------------------------------
    s               holds   whole     accepts it as frame s
    s               broken  torn      skips and counts it; never reads it a second time (I4)
    0               any     torn      the same: the slot is being written, or its writer died in it
    > s             any     lapped    skips and counts it: newer frames took its place
    other           any     empty     skips it

Torn and lapped are normal: a reader that copies a day of frames beside a running writer meets them.

The invariants
==============

I1  A reader never accepts a frame that was not appended exactly so.
I2  The writer is wait-free: append has no loop, lock or wait that depends on a reader.
I3  SIGKILL of the writer at any instruction loses at most the frame in flight. The next writer resumes at
    head + 1 with the history intact.
I4  A reader never spins: a slot that is not whole is skipped and counted.
I5  One writer: a second start fails at once and names the holder's pid. ``fcntl.lockf`` for life on a separate
    0600 file that is never replaced or removed while the segment may be written.
I6  A half-made segment is never taken for a whole one: temporary name, magic last, publish by rename.
I7  No access beyond reserved memory, and no SIGBUS: ``posix_fallocate`` before the first store; nobody touches a
    map but by the kernel, which copies into the writer's and out of the readers'. None of us truncates a segment in
    place, and whoever else does ends no process by it.
I8  A reader can't write: it opens O_RDONLY and maps PROT_READ. It changes no byte; it could at most fill a hole with
    zeros, in the moment between the look for holes and the copy. It never unlinks, whatever way it ends.
I9  Corrupt or foreign bytes anywhere in a segment cost that ring at most.

Assumptions, as assumptions
===========================

* One writer thread per ring. ``append`` is not for two threads at once.
* The words that readers take by themselves, head, heartbeat, pid and catalog_used, are hints: a reader that sees
  half a store of one looks in the wrong place once, and believes nothing that is not under seal.
  ``struct.pack_into`` must not be used on shared words all the same: it writes zeros first, and readers see them
  (prometheus/client_python#315).
* Everything is little-endian; a big-endian machine is refused when a segment is opened.
* The wall clock may step; the order of frames is that of their sequences, time ranges go by timestamp.
"""

from __future__ import annotations

from xxhash import xxh3_64_intdigest

_MASK = 0xFFFF_FFFF_FFFF_FFFF


def frame_seal(payload: bytes | bytearray | memoryview, sequence: int, salt: int) -> int:
    """XXH3-64 of a slot's bytes after the seal, seeded with sequence and salt.

    ``salt`` is the segment's own (the seal of its immutable header), so that a whole slot copied in from
    another segment does not pass for one of this. Source: https://github.com/Cyan4973/xxHash (XXH3, seeded).
    """
    return xxh3_64_intdigest(payload, sequence ^ salt)


def entry_seal(payload: bytes | memoryview, offset: int, salt: int) -> int:
    """XXH3-64 of a catalog entry's bytes, seeded with its offset, so that a moved entry does not hold."""
    # The multiplier keeps entry seeds away from frame seeds: both are small numbers under the same salt.
    return xxh3_64_intdigest(payload, (offset * 0x9E37_79B9_7F4A_7C15 & _MASK) ^ salt)


def header_seal(immutable: bytes | memoryview) -> int:
    """XXH3-64 of the header's immutable part. It is also the segment's salt."""
    return xxh3_64_intdigest(immutable, 0)
