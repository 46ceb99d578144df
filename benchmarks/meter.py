"""Wall time and the server's CPU of the same requests."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

from benchmarks.harness import Measured, exact_cpu_seconds, in_turns

T = TypeVar("T")
_CPU: Final = ", CPU"


class Meter:
    """Times requests to servers, in turns."""

    def __init__(self) -> None:
        self._jobs: dict[str, Callable[[], float]] = {}
        self._cpu_seconds: dict[str, list[float]] = {}

    def add(
        self,
        name: str,
        pid: int,
        ask: Callable[[], T],
        *,
        prepare: Callable[[], object] = lambda: None,
        verify: Callable[[T], object] = lambda _: None,
    ) -> None:
        """Time ``ask()`` in each turn, with the CPU of the process that answers, but not ``prepare`` and ``verify``."""
        taken = self._cpu_seconds[name] = []

        def job() -> float:
            prepare()
            cpu, begun = exact_cpu_seconds(pid), time.perf_counter()
            answer = ask()
            seconds = time.perf_counter() - begun
            taken.append(exact_cpu_seconds(pid) - cpu)
            verify(answer)
            return seconds

        self._jobs[name] = job

    def run(self, turns: int) -> list[Measured]:
        """Figures in milliseconds: the wall time of each name, and the server's CPU under :func:`cpu` of the name."""
        found = []
        for name, seconds in in_turns(self._jobs, turns).items():
            cpu_seconds = self._cpu_seconds[name][1:]  # the turn that goes before is not counted
            found.append(Measured(name, "ms", [1000 * one for one in seconds]))
            found.append(Measured(cpu(name), "ms", [1000 * one for one in cpu_seconds]))
        return found


def cpu(name: str) -> str:
    """The name of the CPU figure that belongs to a wall time."""
    return name + _CPU


def is_cpu(one: Measured) -> bool:
    return one.what.endswith(_CPU)
