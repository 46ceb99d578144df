"""I9, bad bytes: whatever stands in a segment, it costs that ring at most.

Between two healthy rings one is damaged, scraped and made whole again, some thousand times a second, by the exporter's
own code in a process of its own: so that a crash has a signal to be seen by, an allocation a limit, and a hang an
alarm. :mod:`tests.siege.fuzz.mutations` makes the bad bytes, :mod:`tests.siege.fuzz.besieged` knows what must be served.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import logging
import mmap
import os
import random
import resource
import signal
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.siege.fuzz import coverage as coverage_fuzz
from tests.siege.fuzz.besieged import Besieged
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
from tests.siege.harness import ROOT, VIOLATED, Counts, Effort, Mutant, Violation, own_namespace, require

# Of the mutants, in a fixed rhythm, since each takes longer than a scrape alone.
_ATTACHED_EVERY: Final = 4
_DEEP: Final = (1, 18)  # of 32: under readers, and not
_INHERITED_EVERY: Final = 48
_SCRAPE_SECONDS: Final = 20.0  # catches what never ends; a scrape takes half a millisecond
_ROOM_BYTES: Final = 256 << 20  # of address space, more than what the process has when it begins
_GROWTH_BYTES: Final = 64 << 20  # of resident memory; layouts, numbers and the oracle's memory take some MiB
_NOTE_BYTES: Final = 256


def check(effort: Effort) -> Counts:
    with own_namespace() as besieged, own_namespace() as inherited:
        counts = _in_a_process_of_its_own(effort, besieged, inherited)
    if effort.long:
        counts |= coverage_fuzz.siege(effort.many(0, 100_000), effort.seed) if _has_atheris() else _NO_ATHERIS
    return counts


_NO_ATHERIS: Final = {"coverage-guided": "not run, atheris is not installed"}


def _has_atheris() -> bool:
    return importlib.util.find_spec("atheris") is not None


def _in_a_process_of_its_own(effort: Effort, besieged: str, inherited: str) -> dict[str, int | str]:
    note = os.memfd_create("fuzz", 0)
    os.ftruncate(note, _NOTE_BYTES)
    command = [sys.executable, "-m", "tests.siege.fuzz.check", "--namespaces", besieged, inherited, "--note", str(note)]
    command += ["--scale", str(effort.scale), "--seed", str(effort.seed), *(["--long"] if effort.long else [])]
    try:
        run = subprocess.run(
            command,
            cwd=ROOT,
            capture_output=True,
            text=True,
            pass_fds=[note],
            timeout=max(effort.seconds(90, 7200), 60),
        )
        last = os.pread(note, _NOTE_BYTES, 0).rstrip(b"\0").decode()
    except subprocess.TimeoutExpired:
        last = os.pread(note, _NOTE_BYTES, 0).rstrip(b"\0").decode()
        raise Violation(f"I9: the exporter hangs, and no alarm ends it: {last}") from None
    finally:
        os.close(note)
    require(run.returncode >= 0, f"I9: the exporter died of signal {-run.returncode}: {last}")
    require(run.returncode != VIOLATED, run.stderr.strip())
    assert run.returncode == 0, run.stderr
    found: dict[str, int | str] = json.loads(run.stdout)
    return found


# ---- in that process -----------------------------------------------------------------------------------------


def mutations(effort: Effort, besieged: Besieged, chance: random.Random) -> Iterator[Mutation]:
    """What must not be left out, the rest of what is listed as far as the effort allows, and random ones besides."""
    whole = besieged.whole
    metrics, columns = 4, 8
    share = min(effort.scale, 1.0)

    def some(listed: Iterator[Mutation], short: float = 1.0) -> Iterator[Mutation]:
        part = share if effort.long else share * short
        return listed if part >= 1 else (one for one in listed if chance.random() < part)

    yield from sizes(whole, chance, effort.many(40, 10_000))
    yield from early_ends(whole)
    yield from field_values(whole, header=True)
    yield from forged_headers(whole)
    yield from some(changed_bytes(whole, every_bit(whole) if effort.long else every_used_byte(whole, chance)), 0.5)
    yield from forged_catalogs(whole, metrics, columns)
    yield from some(field_values(whole, header=False), 0.2)
    yield from some(forged_slots(whole), 0.2)
    yield from ranges(whole, besieged.donors, chance, effort.many(300, 200_000))
    yield from havoc(whole, chance, effort.many(300, 300_000))
    yield from forged_havoc(whole, chance, effort.many(300, 300_000))
    yield from random_catalogs(whole, metrics, columns, chance, effort.many(200, 130_000))


def besiege(effort: Effort, namespaces: tuple[str, str], note: mmap.mmap) -> Counts:
    chance = effort.random()
    besieged = Besieged(namespaces[0], hung_seconds=_SCRAPE_SECONDS)
    inheritance = Inheritance(namespaces[1])
    signal.signal(signal.SIGALRM, besieged.on_alarm)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    kinds: Counter[str] = Counter()
    forged = attached = deep = 0
    for number, mutation in enumerate(mutations(effort, besieged, chance)):
        text = f"mutant {number} of seed {effort.seed}: {mutation.kind}, {mutation.name}".encode()[:_NOTE_BYTES]
        note[:] = text.ljust(_NOTE_BYTES, b"\0")
        under = number % _ATTACHED_EVERY == 1
        all_pages = number % 32 in _DEEP or mutation.name.startswith("limit ")
        besieged.scrape(mutation, attached=under, deep=all_pages)
        kinds[mutation.kind] += 1
        forged, attached, deep = forged + mutation.forged, attached + under, deep + all_pages
        if number % _INHERITED_EVERY == 0:
            inheritance.resume(mutation)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10) - resident
    require(grown < _GROWTH_BYTES, f"I9: the exporter grew by {grown} bytes over {kinds.total()} mutants")
    besieged.close()
    return {
        "mutants": kinds.total(),
        "of them": ", ".join(f"{kind} {count:,}" for kind, count in kinds.items()),
        "with forged seals": forged,
        "under readers that had it open": attached,
        "served, in whole or in part": besieged.served,
        "refused by name": besieged.refused,
        "windows, /stats and /health": deep,
        "resumed by the next writer": inheritance.resumed,
        "begun anew by the next writer": inheritance.begun_anew,
        "resident memory grew by at most": f"{max(grown, 1 << 20) / 2**20:.0f} MiB",
    }


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.siege.fuzz.check")
    parser.add_argument("--namespaces", nargs=2, required=True)
    parser.add_argument("--note", type=int, required=True, help="descriptor to say in which mutant is tried")
    parser.add_argument("--long", action="store_true")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    logging.getLogger().addHandler(logging.NullHandler())
    warnings.simplefilter("error", RuntimeWarning)  # of numpy: nothing that a ring holds is worth a line a scrape
    namespaces: tuple[str, str] = tuple(options.namespaces)
    try:
        with mmap.mmap(options.note, _NOTE_BYTES) as note:
            counts = besiege(Effort(options.long, options.scale, options.seed), namespaces, note)
    except Violation as violation:
        print(violation, file=sys.stderr)
        return VIOLATED
    print(json.dumps(counts))
    return 0


MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "fuzz", "the header's seal is not checked", "shm.ring.layout:read_header",
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
        "fuzz", "holes are not looked for", "shm.files:open_segment",
        code="status.st_blocks * 512 < header.segment_bytes", becomes="False",
        says="the error must say 'it has holes'", scale=0.3,
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
    raise SystemExit(main())
