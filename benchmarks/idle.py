"""P8, P9: CPU and memory of the whole daemon at its default interval without scrapes, compared with four agents.

All of them run at the same time on one machine and are read at the same moments. They sleep most of the time, so they
do not disturb each other. Each turn is one interval, in which each of them collects once.
"""

from __future__ import annotations

import contextlib
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from benchmarks import footprint, report
from benchmarks.footprint import MIB
from benchmarks.harness import Answer, Effort, Measured, Missing, Target, exact_cpu_seconds
from benchmarks.peers.agents import AGENTS, Agent
from benchmarks.supervised import Supervised, supervised

_INTERVAL_SECONDS: Final = 15
_TURNS: Final = 4
_OURS: Final = "fogmetrics"


def ask(effort: Effort) -> Answer:
    answer = Answer("The idle daemon")
    with contextlib.ExitStack() as stack:
        agents: dict[str, Agent] = {}
        for name, agent in AGENTS.items():
            directory = stack.enter_context(
                tempfile.TemporaryDirectory(prefix="fogmetrics-", ignore_cleanup_errors=True)
            )
            try:
                agents[name] = stack.enter_context(agent(Path(directory), _INTERVAL_SECONDS))
            except Missing as one:
                answer.missing.append(one)
        found = stack.enter_context(supervised(_INTERVAL_SECONDS))
        answer.missing += found.missing
        daemon = stack.enter_context(found.daemon)
        daemon.wait_until_collected()
        # One whole interval first, and a page of each: what is done once is not what idling costs.
        time.sleep(effort.seconds(_INTERVAL_SECONDS + 3))
        daemon.get("/metrics")
        for name, peer in agents.items():
            peer.answers()  # Netdata has only its head until the second interval is over
            if peer.program.process.poll() is not None:
                raise RuntimeError(f"{name} ended:\n{peer.program.log()[-2000:]}")
        roots = {name: peer.pid for name, peer in agents.items()}
        ours = found.pids()
        cpu = _cpu(ours, roots, effort.turns(_TURNS), max(effort.seconds(_INTERVAL_SECONDS), 1.0))
        places = {name: footprint.pss_by_place(pid) for name, pid in ours.items()}
        rings = _ring_bytes(found)
        # The rings as a whole, since their memory is taken from the start, mapped or not.
        own = sum(size for one in places.values() for place, size in one.items() if place != "rings")
        pss = {_OURS: float(own + rings)}
        pss |= {name: float(footprint.tree_pss_bytes(pid)) for name, pid in roots.items()}
    _fill(answer, cpu, pss, places, rings)
    return answer


def _cpu(ours: Mapping[str, int], roots: Mapping[str, int], turns: int, seconds: float) -> dict[str, list[float]]:
    """Percent of a core in each turn: of each of our processes, of all of them, and of each agent's processes."""

    def used() -> dict[str, float]:
        each = {f"{_OURS}: {name}": exact_cpu_seconds(pid) for name, pid in ours.items()}
        return (
            {_OURS: sum(each.values())} | each | {name: footprint.tree_cpu_seconds(pid) for name, pid in roots.items()}
        )

    share: dict[str, list[float]] = {}
    before, begun = used(), time.monotonic()
    for turn in range(turns):
        time.sleep(max(begun + (turn + 1) * seconds - time.monotonic(), 0))
        now = used()
        for name, value in now.items():
            share.setdefault(name, []).append(100 * (value - before[name]) / seconds)
        before = now
    return share


def _ring_bytes(found: Supervised) -> int:
    rings = found.daemon.get("/stats").json()["rings"]
    return sum(int(ring["bytes"]) for ring in rings.values())


def _fill(
    answer: Answer,
    cpu: Mapping[str, list[float]],
    pss: Mapping[str, float],
    places: Mapping[str, Counter[str]],
    rings: int,
) -> None:
    answer.measured = [Measured(f"CPU, {name}", "% of a core", turns) for name, turns in cpu.items()]
    answer.measured += [Measured(f"PSS, {name}", "MiB", [size / MIB]) for name, size in pss.items()]
    answer.measured.append(Measured("PSS, fogmetrics: of it all rings", "MiB", [rings / MIB]))
    answer.targets = [
        Target("P8", "CPU of the whole daemon", answer.median(f"CPU, {_OURS}"), "most", 0.1, "% of a core"),
        Target("P9", "PSS of the whole daemon, rings included", answer.median(f"PSS, {_OURS}"), "most", 135, "MiB"),
    ]
    answer.notes = [
        f"All programs ran at the same time for {_INTERVAL_SECONDS} s a turn and collected every {_INTERVAL_SECONDS} "
        "s, except node_exporter, which collects when it is scraped. Each was asked for one page before, and for "
        "none during the turn. CPU is from /proc/PID/task/*/schedstat, PSS from smaps, of an agent with all its "
        "child processes. Netdata keeps an hour in memory, without machine learning and alarms. Glances has no "
        "screen and exports to Prometheus.",
        "PSS of fogmetrics by use, in MiB. `heap` is what the interpreter and its libraries allocated, mostly code "
        "and tables of imported modules. Libraries are mapped files, shared by the processes that map them:"
        f"\n\n{_breakdown(places)}\n",
        f"The rings are {rings / MIB:.1f} MiB, reserved from the start. The PSS of a process above contains the part "
        "of the rings that it has touched, the PSS of the daemon all of it.",
    ]


def _breakdown(places: Mapping[str, Counter[str]]) -> str:
    """Rows by use of the memory, columns by process."""
    total: Counter[str] = Counter()
    for one in places.values():
        total += one
    shown = [place for place, size in total.most_common() if size >= MIB / 4]
    rows = {place: [places[name][place] for name in places] for place in shown}
    rows["the rest"] = [sum(size for place, size in one.items() if place not in shown) for one in places.values()]
    rows["all"] = [sum(one.values()) for one in places.values()]
    figures = ((name, *(f"{size / MIB:.1f}" for size in (*sizes, sum(sizes)))) for name, sizes in rows.items())
    return textwrap.indent(report.rows(("", *places, "all"), figures), "  ")
