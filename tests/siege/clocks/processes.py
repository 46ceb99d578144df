"""Stop real collectors by SIGSTOP for several intervals and continue them, and set the wall clock of another one.

No test can set the clock of its host; libfaketime (apt-get install faketime) sets the wall clock that one process sees.
Where it is not installed that part is left out, and its count with it: the simulated clocks step everywhere.
"""

from __future__ import annotations

import contextlib
import functools
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

from shm.process import process_fields
from shm.ring.layout import FLAG_CLOCK_STEP
from shm.ring.reader import Frames, RingReader
from tests.programs import Program
from tests.rings import newest_sequence
from tests.siege.collectors import INTERVAL_SECONDS, WAIT_SECONDS, collector, wait_for_frame
from tests.siege.harness import Counts, Effort, own_namespace, require

_SOURCES = ("system", "node")
_INTERVAL_NS = round(INTERVAL_SECONDS * 1e9)
# In ticks: how far the time that passed may differ from the ticks that were written or missed. The first tick is off
# the grid, and the last may be late.
_TOLERANCE = 1.6


def check(effort: Effort) -> Counts:
    counts = dict(_stopped(effort))
    library = _faketime()
    if library:
        counts["steps of a process's clock"] = _stepped(effort, library)
    return counts


def _stopped(effort: Effort) -> Counts:
    chance = effort.random()
    stops = effort.many(3, 100)
    frames = missed = 0
    with own_namespace() as namespace, contextlib.ExitStack() as stack:
        programs = {source: stack.enter_context(collector(namespace, source)) for source in _SOURCES}
        for source, program in programs.items():
            _go_on(namespace, source, program)
        stopped_ns = [_stop(namespace, programs, chance) for _ in range(stops)]
        for source, program in programs.items():
            with RingReader(namespace, source) as reader:
                found = reader.frames()
                require(reader.writer.pid == program.pid, f"{source}: its writer is not the process that was stopped")
                frames += len(found.sequence)
                missed += _held(source, found, reader, stopped_ns)
            # With a SIGTERM while it is stopped, it ends when it is continued.
            _end(program, signal.SIGSTOP, signal.SIGTERM, signal.SIGCONT)
    return {
        "SIGSTOPs of processes": stops * len(_SOURCES),
        "frames of theirs": frames,
        "ticks that they missed": missed,
    }


def _faketime() -> str:
    """LD_PRELOAD for libfaketime; empty where it is not installed."""
    program = shutil.which("faketime")
    if program is None:
        return ""
    run = subprocess.run([program, "-m", "now", "printenv", "LD_PRELOAD"], capture_output=True, text=True, timeout=10)
    return run.stdout.strip() if run.returncode == 0 else ""


def _stepped(effort: Effort, library: str) -> int:
    """Set the wall clock of a collector again and again, back an hour and forward a day among others."""
    chance = effort.random()
    offset = 0
    steps: list[int] = []
    with own_namespace() as namespace, tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
        clock = Path(directory) / "clock"

        def set_clock() -> None:
            # By rename, because half a line would be another time.
            clock.with_suffix(".new").write_text(f"{offset:+d}\n")
            clock.with_suffix(".new").rename(clock)

        set_clock()
        faketime = {
            "LD_PRELOAD": library, "FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
        }  # fmt: skip
        program = stack.enter_context(collector(namespace, "system", environ=faketime))
        _go_on(namespace, "system", program)
        for number in range(effort.many(2, 100)):
            some = chance.choice((-1, 1)) * chance.randint(2, 1_000_000)
            steps.append((-3600, 86_400, some)[min(number, 2)])
            offset += steps[-1]
            set_clock()
            _go_on(namespace, "system", program)
        with RingReader(namespace, "system") as reader:
            found = reader.frames()
            _held("system", found, reader, [])
            [series] = [one for one in reader.series if one.metric.name == "collector_clock_steps_total"]
            counted = int(found.values[-1, series.column])
            require(counted == len(steps), f"{counted} steps of the clock are counted, and {len(steps)} were made")
            marked = np.flatnonzero(found.flags & np.uint64(FLAG_CLOCK_STEP))
            jumps = (np.diff(found.timestamp_ns) - np.diff(found.monotonic_ns))[marked - 1] / 1e9
            require(
                np.allclose(jumps, steps, atol=0.1), f"timestamps jump by {jumps.tolist()} seconds for steps of {steps}"
            )
        _end(program, signal.SIGTERM)
    return len(steps)


def _stop(namespace: str, programs: dict[str, Program], chance: random.Random) -> int:
    """Stop all of them for some intervals, and wait until they go on; the least time that they were stopped, in ns."""
    time.sleep(chance.random() * 2 * INTERVAL_SECONDS)
    for program in programs.values():
        program.process.send_signal(signal.SIGSTOP)
    for program in programs.values():
        program.wait_until(functools.partial(_is_stopped, program.pid), WAIT_SECONDS, "a stopped process")
    begun_ns = time.monotonic_ns()
    time.sleep(INTERVAL_SECONDS * chance.uniform(2, 8))
    passed_ns = time.monotonic_ns() - begun_ns
    for program in programs.values():
        program.process.send_signal(signal.SIGCONT)
    for source, program in programs.items():
        _go_on(namespace, source, program)
    return passed_ns


def _end(program: Program, *signals: signal.Signals) -> None:
    for number in signals:
        program.process.send_signal(number)
    status = program.process.wait(WAIT_SECONDS)
    require(status == 0, f"a collector has the exit status {status} after SIGTERM:\n{program.log()}")


def _is_stopped(pid: int) -> bool:
    return process_fields(pid)[0] == b"T"


def _go_on(namespace: str, source: str, program: Program) -> None:
    """Wait for three new frames."""
    wait_for_frame(program, namespace, source, newest_sequence(namespace, source) + 3)


def _held(source: str, frames: Frames, reader: RingReader, stopped_ns: list[int]) -> int:
    sequences = frames.sequence.astype(np.int64)
    require((np.diff(sequences) == 1).all(), f"{source}: its frames are not one after the other")
    gaps = np.diff(frames.monotonic_ns)
    require(
        (gaps >= _INTERVAL_NS // 2).all(),
        f"{source}: bunching: two frames are {gaps.min() / 1e6:.1f} ms apart, at an interval of {_INTERVAL_NS / 1e6:g}",
    )
    # No frame is written while it is stopped: that many gaps are at least that long.
    longest = np.sort(gaps)[::-1]
    for i, passed_ns in enumerate(sorted(stopped_ns, reverse=True)):
        require(longest[i] >= passed_ns, f"{source}: a frame was written while the process was stopped")
    [series] = [one for one in reader.series if one.metric.name == "collector_ticks_missed_total"]
    counted = frames.values[:, series.column]
    passed = (frames.monotonic_ns - frames.monotonic_ns[0]) / _INTERVAL_NS
    written = np.arange(len(sequences)) + counted - counted[0]
    steps = int((frames.flags & np.uint64(FLAG_CLOCK_STEP) != 0).sum())
    # Of the last frames the one that came least late.
    off = float(np.abs(passed - written)[-10:].min())
    require(
        off <= _TOLERANCE + steps / 2,
        f"{source}: missed ticks are counted wrong: {counted[-1]:g} missed and {len(sequences)} frames in "
        f"{passed[-1]:.1f} intervals",
    )
    return int(counted[-1])
