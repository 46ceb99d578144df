"""``python -m tests.siege [CHECK …] [--long] [--scale X] [--seed N] [--part P] [--write]``: run checks.

Without a name all of them, in the order of docs/reliability.md. Exit status 3 when a check saw a promise broken.
``--write`` puts the table of counts into docs/reliability.md.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import platform
import sys
import time
from collections.abc import Callable
from types import ModuleType

import pytest

from tests.siege.harness import ROOT, VIOLATED, Counts, Effort, Violation

# In the order of docs/reliability.md.
CHECKS = {
    "model": "I1: every order in which stores may become visible",
    "hardware": "I1: a writer flat out and several readers, frames that prove themselves",
    "emulated": "I1: the same under an emulated arm64",
    "death": "I3: SIGKILL of the writer at any instant",
    "writers": "I5: two writers at once",
    "room": "I6, I7: shared memory that runs out",
    "truncation": "I7: a segment cut short or removed under its users",
    "reader": "I8: the exporter as another user",
    "fuzz": "I9: bad bytes",
    "applications": "tables of many processes that die, fork, remove and fold",
    "churn": "series that come and go",
    "clocks": "clocks that step, processes that are suspended",
    "snapshots": "history over a reboot and an upgrade",
    "daemon": "the whole daemon under faults",
    "clients": "bad HTTP clients",
    "targets": "bad targets",
}
_BEGIN, _END = "<!-- counts: make siege writes them -->", "<!-- end of counts -->"


def module_of(name: str) -> ModuleType:
    """The module of that check: tests/siege/NAME.py, or check.py of the package tests/siege/NAME."""
    found = importlib.import_module(f"tests.siege.{name}")
    return importlib.import_module(f"{found.__name__}.check") if hasattr(found, "__path__") else found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.siege", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("check", nargs="*", metavar="CHECK", help=f"of {', '.join(CHECKS)}; none: all")
    parser.add_argument("--long", action="store_true", help="minutes each, not seconds")
    parser.add_argument("--scale", type=float, default=1.0, help="that many times as much")
    parser.add_argument("--seed", type=int, default=0, help="of what is random")
    parser.add_argument("--part", default="", help="of a check that has parts, that one alone")
    parser.add_argument("--write", action="store_true", help="put the counts into docs/reliability.md")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.check if name not in CHECKS]:
        parser.error(f"there is no check {unknown[0]!r}; the checks are {', '.join(CHECKS)}")
    if options.write and (not options.long or options.scale != 1 or options.part):
        parser.error("--write goes with --long and without --scale and --part: the table is of whole runs")
    logging.getLogger().addHandler(logging.NullHandler())  # the program logs the harm done to it
    done: dict[str, tuple[float, Counts]] = {}
    for name in options.check or CHECKS:
        module = module_of(name)
        check: Callable[[Effort], Counts] = module.check
        if options.part and options.part not in (parts := getattr(module, "PARTS", ())):
            parser.error(f"{name} has no part {options.part!r}; its parts are: {', '.join(parts) or 'none'}")
        begun = time.monotonic()
        try:
            counts = check(Effort(options.long, options.scale, options.seed, options.part))
        except Violation as violation:
            print(f"{name}: VIOLATED (seed {options.seed}): {violation}", file=sys.stderr, flush=True)
            return VIOLATED
        except pytest.skip.Exception as missing:
            print(f"{name}: not run: {missing}", file=sys.stderr, flush=True)
            continue
        if idle := [key for key, value in counts.items() if not value]:
            print(f"{name}: did nothing: {', '.join(idle)}: 0", file=sys.stderr, flush=True)
            return 1
        done[name] = time.monotonic() - begun, counts
        print(f"{name}: {done[name][0]:.1f} s: {_shown_all(counts, ': ')}", flush=True)
    if options.write:
        write(done)
    return 0


def _shown_all(counts: Counts, between: str) -> str:
    return "; ".join(
        f"{key}{between}{value:,}" if isinstance(value, int) else f"{key}{between}{value}"
        for key, value in counts.items()
    )


def write(done: dict[str, tuple[float, Counts]]) -> None:
    """Replace the rows of those checks in the table of docs/reliability.md; the others stay as they are."""
    page = ROOT / "docs" / "reliability.md"
    before, _, rest = page.read_text().partition(_BEGIN)
    table, _, after = rest.partition(_END)
    rows = {line.split("`")[1]: line for line in table.splitlines() if line.startswith("| `")}
    where = f"Python {platform.python_version()}, Linux {platform.release().split('-')[0]}, {platform.machine()}"
    for name, (seconds, counts) in done.items():
        rows[name] = f"| `{name}` | {CHECKS[name]} | {_shown_all(counts, ' ')} | {seconds:.0f} s | {where} |"
    lines = ["", "| check | what | counts | took | on |", "|---|---|---|---|---|"]
    lines += [rows[name] for name in CHECKS if name in rows]
    page.write_text(f"{before}{_BEGIN}\n" + "\n".join(lines) + f"\n\n{_END}{after}")


if __name__ == "__main__":
    raise SystemExit(main())
