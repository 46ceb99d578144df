"""The programs of the check ``emulated``, one on each machine: how they are started, ordered about, and ended."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any, Final

import pytest

from tests.siege.emulated import userlands
from tests.siege.emulated.userlands import ARM64, S390X, Machine, Userland
from tests.siege.harness import ROOT, require

PAGES: Final = (16_384, 65_536)  # what else an arm64 kernel may have for a page
_TIMEOUT_SECONDS: Final = 60.0
_PROGRAM: Final = ("-m", "tests.siege.emulated.program")


@dataclass
class Side:
    """A program that waits for orders, on one of the machines."""

    name: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes]
    about: dict[str, Any] = field(default_factory=dict)

    def order(self, do: str, **arguments: object) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise AssertionError(f"the program on {self.name} ended: {self.said()}") from None

    def answer(self, *, after: float = 0) -> dict[str, Any]:
        """The answer to the oldest order that has none yet; Violation where it saw a promise broken.

        ``after``: how many seconds the order itself takes.
        """
        assert self.process.stdout is not None
        within = after + _TIMEOUT_SECONDS
        ready, _, _ = select.select([self.process.stdout], [], [], within)
        assert ready, f"the program on {self.name} gave no answer within {within:g} s: {self.said()}"
        line = self.process.stdout.readline()
        assert line, f"the program on {self.name} ended: {self.said()}"
        answer: dict[str, Any] = json.loads(line)
        require("wrong" not in answer, f"on {self.name}: {answer.get('wrong')}")
        return answer

    def ask(self, do: str, **arguments: object) -> dict[str, Any]:
        self.order(do, **arguments)
        return self.answer()

    def said(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")


@dataclass(frozen=True)
class Sides:
    """This machine, an emulated arm64, others with other pages as far as the emulator can, and one big-endian
    where there is a userland of it: mirrors carry s390x with less care than the others.
    """

    here: Side
    there: Side
    other_pages: list[Side]
    big_endian: Side | None


@contextlib.contextmanager
def sides(pages: tuple[int, ...], *, big_endian: bool) -> Iterator[Sides]:
    """This machine and an arm64, one more for each size of ``pages``, and a big-endian one where it is wanted; started
    side by side. The test is skipped where arm64 can't be emulated.
    """
    arm64, s390x = _userland(ARM64), userlands.userland(S390X) if big_endian else None
    with contextlib.ExitStack() as stack:

        def started(name: str, command: list[str]) -> Side:
            return stack.enter_context(_side(name, command))

        here = started("this machine", [sys.executable, *_PROGRAM])
        there = started("arm64", arm64.command(*_PROGRAM))
        others = [
            (started(f"arm64 with pages of {size:,} bytes", arm64.command(*_PROGRAM, page_bytes=size)), size)
            for size in pages
        ]
        other_order = started("s390x", s390x.command("-m", "tests.siege.emulated.big_endian")) if s390x else None
        for side in (here, there):
            side.about = side.ask("about")
        here.name = here.about["machine"]
        yield Sides(here, there, [side for side, size in others if _has_pages(side, size)], other_order)


def _userland(machine: Machine) -> Userland:
    if machine.emulator() is None:
        pytest.skip(f"{machine.emulators[0]} is not installed: {userlands.HOW_TO_GET_EMULATORS}")
    userland = userlands.userland(machine)
    if userland is None:
        pytest.skip(f"there is no userland of {machine.name} in {machine.folder()}: {userlands.HOW_TO_MAKE}")
    return userland


def _has_pages(side: Side, size: int) -> bool:
    """Newer emulators refuse another page than the host's: then the program has ended at once."""
    try:
        side.about = side.ask("about")
    except AssertionError:
        if side.process.wait(_TIMEOUT_SECONDS) == 0 or "page" not in side.said().lower():
            raise
        return False
    return bool(side.about["page_bytes"] == size)


@contextlib.contextmanager
def _side(name: str, command: list[str]) -> Iterator[Side]:
    # Nothing of this interpreter's surroundings reaches the other; one thread, for the program forks its readers.
    environ = {
        "PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }  # fmt: skip
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
        try:
            yield Side(name, process, errors)
        finally:
            process.kill()  # its readers see that it is gone
            with contextlib.suppress(BrokenPipeError):
                process.communicate()
