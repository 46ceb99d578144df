"""What the benchmarks share: turns that alternate, medians and their spread, targets, and what is missing.

Each question is a module of this package with ``def ask(effort) -> Answer``; ``__main__`` runs them and ``report``
writes what they found. A figure is never typed in: it comes from a :class:`Measured` of the same run.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil

T = TypeVar("T")

ROOT = Path(__file__).parent.parent


class Missing(Exception):
    """A peer can't be had on this machine. ``how``: how to get it."""

    def __init__(self, what: str, how: str) -> None:
        super().__init__(f"{what} is not installed: {how}")
        self.what, self.how = what, how


@dataclass(frozen=True, slots=True)
class Measured:
    """One thing, measured once in each turn. ``unit``: as the tables write it, such as ``µs`` or ``MiB``."""

    what: str
    unit: str
    turns: Sequence[float]

    @property
    def median(self) -> float:
        return statistics.median(self.turns)

    @property
    def low(self) -> float:
        return min(self.turns)

    @property
    def high(self) -> float:
        return max(self.turns)


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure, or a ratio of the medians of two figures of one run, is to reach.

    ``key``: its number in the table of targets, such as ``P4``; ``says``: what is compared, as a sentence without the
    number; ``unit``: empty for a ratio. ``at``: whether ``limit`` is the least or the most that is right.
    """

    key: str
    says: str
    measured: float
    at: Literal["least", "most"]
    limit: float
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.measured >= self.limit if self.at == "least" else self.measured <= self.limit


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over one axis: ``lines`` maps each name to its points (x, y). ``name`` is that of its file."""

    name: str
    title: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    log: bool = True


@dataclass(frozen=True, slots=True)
class Bars:
    """One bar a line, each divided into parts: ``bars`` maps its name to its parts, which add up to 100."""

    name: str
    title: str
    x: str
    bars: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Breakdown:
    """What the thing measured under the name ``what`` consists of: by part how much of it, in ``unit``."""

    what: str
    unit: str
    parts: Mapping[str, float]

    @property
    def whole(self) -> float:
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True)
class Table:
    """Figures that are no medians of turns: a line of what they are, and rows of cells."""

    what: str
    head: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


@dataclass(slots=True)
class Answer:
    """What one question found."""

    title: str
    measured: list[Measured] = field(default_factory=list)
    breakdowns: list[Breakdown] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    charts: list[Chart | Bars] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # how to read it, Markdown, a sentence or two each
    short: dict[str, str] = field(default_factory=dict)  # what other pages of docs/ show of it, Markdown, by file name

    def median(self, what: str) -> float:
        """Of the thing measured under that name. KeyError where there is none."""
        for one in self.measured:
            if one.what == what:
                return one.median
        raise KeyError(what)

    def has(self, what: str) -> bool:
        return any(one.what == what for one in self.measured)


@dataclass(frozen=True, slots=True)
class Effort:
    """How much of everything: 1 for the table; below that to see that a script works."""

    scale: float = 1.0

    def turns(self, number: int) -> int:
        return max(3, round(number * self.scale))

    def many(self, number: int) -> int:
        return max(1, round(number * self.scale))

    def seconds(self, seconds: float) -> float:
        return seconds * self.scale


def in_turns(jobs: Mapping[str, Callable[[], T]], turns: int) -> dict[str, list[T]]:
    """What each job returns, A B C A B C …, so that a busy moment of the machine meets all of them.

    One turn of each goes before, uncounted: caches fill, modules load.
    """
    for job in jobs.values():
        job()
    found: dict[str, list[T]] = {name: [] for name in jobs}
    for _ in range(turns):
        for name, job in jobs.items():
            found[name].append(job())
    return found


def seconds_each(job: Callable[[], object], repeat: int) -> float:
    """Mean seconds of one call of ``job`` in this process."""
    begun = time.perf_counter()
    for _ in range(repeat):
        job()
    return (time.perf_counter() - begun) / repeat


def cpu_seconds_each(job: Callable[[], object], repeat: int) -> float:
    """The same of this process's CPU: what else the machine does is left out."""
    begun = time.process_time()
    for _ in range(repeat):
        job()
    return (time.process_time() - begun) / repeat


def cpu_seconds(pid: int) -> float:
    """User and system time that a process has taken; threads included, children not."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def exact_cpu_seconds(pid: int) -> float:
    """The same in nanoseconds' resolution, of all of its threads, where /proc tells it; cpu_times counts in hundredths.

    The kernel's documentation of schedstat: the first number is the time spent on the processor, in nanoseconds.
    """
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9
    except (OSError, IndexError, ValueError):
        return cpu_seconds(pid)


@contextlib.contextmanager
def answering(command: Sequence[str], environ: Mapping[str, str]) -> Iterator[Callable[..., Any]]:
    """A process that answers each line of JSON, the list of the call's arguments, by one, and ends with its input."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    assert process.stdin is not None
    assert process.stdout is not None
    heard, said = process.stdin, process.stdout

    def ask(*arguments: object) -> Any:
        heard.write(json.dumps(arguments) + "\n")
        answer = said.readline()
        assert answer, f"{command} ended over {arguments}"
        return json.loads(answer)

    try:
        yield ask
    finally:
        heard.close()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        said.close()


def program(name: str, how: str) -> str:
    """The path of a peer's program; Missing where it is not installed."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=places)
    if found is None:
        raise Missing(name, how)
    return found
