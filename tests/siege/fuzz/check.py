"""Attack I9, bad bytes: a ring is damaged and scraped some thousand times a second, and costs that ring at most.

The exporter's own code scrapes it between two healthy rings, in a process of its own: so that a crash shows as a
signal, an allocation meets a limit, and a hang ends by SIGALRM. :mod:`tests.siege.fuzz.mutations` makes the bad bytes;
:mod:`tests.siege.fuzz.victim` knows what must be served of them, :mod:`tests.siege.fuzz.inheritance` what the next
writer must keep.
"""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import random
import resource
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.siege.fuzz import coverage
from tests.siege.fuzz.catalogs import forged_catalogs, random_catalogs
from tests.siege.fuzz.inheritance import Inheritance
from tests.siege.fuzz.mutations import (
    Mutation,
    changed_bytes,
    early_ends,
    every_bit,
    every_used_byte,
    field_values,
    forged_havoc,
    forged_headers,
    forged_slots,
    havoc,
    ranges,
    sizes,
)
from tests.siege.fuzz.victim import Victim
from tests.siege.harness import Counts, Effort, Mutant, Violation, own_namespace, require
from tests.siege.processes import Done, ask, main

# Of the mutations, in a fixed rhythm, since each takes longer than a scrape alone.
_ATTACHED_EVERY: Final = 4
_DEEP: Final = (1, 18)  # of 32: under readers, and not
_INHERITED_EVERY: Final = 48
_HUNG_SECONDS: Final = 20  # a scrape takes half a millisecond
_ROOM_BYTES: Final = 256 << 20  # of address space, beyond what the process has when it begins
_GROWTH_BYTES: Final = 64 << 20  # of resident memory; layouts, numbers and the oracle's memory take some MiB


def check(effort: Effort) -> Counts:
    with own_namespace() as scraped, own_namespace() as inherited, tempfile.NamedTemporaryFile() as note:
        arguments = scraped, inherited, note.name, int(effort.long), effort.scale, effort.seed
        try:
            counts = ask("tests.siege.fuzz.check", "besiege", *arguments, timeout=max(effort.seconds(90, 7200), 60))
        except Violation as violation:
            raise Violation(f"{violation} (last tried: {Path(note.name).read_text().rstrip()})") from violation
    if effort.long and importlib.util.find_spec("atheris") is None:
        return {**counts, "coverage-guided": "not run, atheris is not installed"}
    return {**counts, **coverage.siege(effort.many(0, 100_000), effort.seed)} if effort.long else counts


def besiege(scraped: str, inherited: str, note: str, long: str, scale: str, seed: str) -> Done:
    """In a process of its own. The file ``note`` has the name of the mutation that is tried."""
    effort = Effort(bool(int(long)), float(scale), int(seed))
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("error", RuntimeWarning)  # numpy must not warn of what a ring holds
    victim, inheritance = Victim(scraped), Inheritance(inherited)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    kinds: Counter[str] = Counter()
    done: Counter[str] = Counter()
    fd = os.open(note, os.O_WRONLY)
    for number, mutation in enumerate(_mutations(effort, victim, effort.random())):
        text = f"mutation {number}, {mutation.kind}, {mutation.name}".encode()
        os.pwrite(fd, text.ljust(256)[:256], 0)
        attached = number % _ATTACHED_EVERY == 1
        deep = number % 32 in _DEEP or mutation.name.startswith("limit ")
        signal.setitimer(signal.ITIMER_REAL, _HUNG_SECONDS)
        victim.scrape(mutation, attached=attached, deep=deep)
        signal.setitimer(signal.ITIMER_REAL, 0)
        if number % _INHERITED_EVERY == 0:
            inheritance.resume(mutation)
        kinds[mutation.kind] += 1
        done.update({
            "with forged seals": mutation.forged, "under readers that had it open": attached,
            "windows, /stats and /health": deep,
        })  # fmt: skip
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - resident
    require(grown < _GROWTH_BYTES, f"I9: the exporter grew by {grown} bytes over {kinds.total()} mutations")
    victim.close()
    return {
        "mutations": kinds.total(),
        "of them": ", ".join(f"{kind} {count:,}" for kind, count in kinds.items()),
        **done,
        "served, in whole or in part": victim.served,
        "refused by name": victim.refused,
        "resumed by the next writer": inheritance.resumed,
        "begun anew by the next writer": inheritance.begun_anew,
        "resident memory grew by at most": f"{max(grown, 1 << 20) / 2**20:.0f} MiB",
    }


def _mutations(effort: Effort, victim: Victim, chance: random.Random) -> Iterator[Mutation]:
    """Those that must not be left out, a share of the other listed ones, and random ones."""
    whole = victim.whole
    metrics, columns = 4, 8
    share = min(effort.scale, 1.0)

    def some(listed: Iterator[Mutation], short: float) -> Iterator[Mutation]:
        part = share if effort.long else share * short
        return (one for one in listed if chance.random() < part)

    bits = every_bit(whole) if effort.long else every_used_byte(whole, chance)
    return itertools.chain(
        sizes(whole, chance, effort.many(40, 10_000)),
        early_ends(whole),
        field_values(whole, header=True),
        forged_headers(whole),
        some(changed_bytes(whole, bits), 0.5),
        forged_catalogs(whole, metrics, columns),
        some(field_values(whole, header=False), 0.2),
        some(forged_slots(whole), 0.2),
        ranges(whole, victim.donors, chance, effort.many(300, 200_000)),
        havoc(whole, chance, effort.many(300, 300_000)),
        forged_havoc(whole, chance, effort.many(300, 300_000)),
        random_catalogs(whole, metrics, columns, chance, effort.many(200, 130_000)),
    )


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "fuzz", "the header's seal is not checked", "shm.ring.layout:proven_header",
        code="header_seal(immutable) != words[WORD_SEAL]", becomes="False",
        says="the error must say 'header seal is", scale=0.3,
    ),
    Mutant(
        "fuzz", "the seals of catalog entries are not checked", "shm.catalog:extend",
        code="entry_seal(data[at : at + 8] + body, catalog.used, salt) != seal", becomes="False",
        says="the error is no sentence", scale=0.3,
    ),
    Mutant(
        "fuzz", "a frame is taken for its sequence alone", "shm.ring.frame:prove",
        code="frame_seal(view[SLOT_PAYLOAD:], sequence, salt) != seal", becomes="False",
        says="I9: bytes flipped", scale=0.3,
    ),
    Mutant(
        "fuzz", "the file may have another size than the header says", "shm.ring.layout:read_header",
        code="size != file_bytes", becomes="False", says="the error must say", scale=0.3,
    ),
    Mutant(
        "fuzz", "a header may claim any number of slots", "shm.ring.layout:read_header",
        code="0 < value <= limit", becomes='name == "capacity" or 0 < value <= limit',
        says="not within 1", scale=0.3,
    ),
    Mutant(
        "fuzz", "a catalog that ends early is taken for whole", "exporter.rings:Ring.find_flaw",
        code="self.count > catalog.columns", becomes="False", says="nothing says so", scale=0.3,
    ),
)  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main({"besiege": besiege}))
