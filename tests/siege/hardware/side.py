"""A program that takes orders as lines of JSON and answers them, on this machine or an emulated one."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

from tests.siege.harness import ROOT, require

_TIMEOUT_SECONDS: Final = 60.0


@dataclass
class Side:
    """The running program. ``name``: of its machine."""

    name: str
    process: subprocess.Popen[bytes]
    errors: IO[bytes]

    def order(self, do: str, **arguments: object) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise AssertionError(f"the program on {self.name} ended: {self.said()}") from None

    def answer(self, *, after: float = 0) -> dict[str, Any]:
        """The answer to the oldest order without one. Raises Violation where the program saw a promise broken.

        ``after``: the seconds that the order itself takes.
        """
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], after + _TIMEOUT_SECONDS)
        assert ready, f"the program on {self.name} gave no answer: {self.said()}"
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


@contextlib.contextmanager
def side(name: str, command: Sequence[str]) -> Iterator[Side]:
    """Start the program of ``command``; it is killed at the end of the block, and its forks see that it is gone."""
    # Nothing of this interpreter's environment reaches another machine's. One thread, for the program forks.
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
            process.kill()
            with contextlib.suppress(BrokenPipeError):
                process.communicate()
