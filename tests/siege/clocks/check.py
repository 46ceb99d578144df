"""Attack the promises on time: clocks that step, hosts that are suspended, processes that are stopped.

A Worker runs on simulated clocks through random scenarios. The wall clock is set back an hour, forward a day or by any
other amount, at any instant of a tick or between two; it is slewed; the host is suspended (the monotonic clock halts,
the wall clock jumps); the process is stopped for several intervals, or a collection takes most of one. The frames must
then show one frame a tick, no hang, no two frames within half an interval, every missed tick and step counted, and
windows must go by timestamp and name what they cover. :mod:`tests.siege.clocks.processes` stops real processes.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
import random
import re

from xxhash import xxh3_64_intdigest

from collector.frame.collector import MetricCollector
from collector.loop.stop import Stop
from collector.loop.worker import Worker
from collector.source import CollectResult, MetricSource, Sample
from exporter.app import Exporter
from exporter.http.negotiation import Format
from exporter.http.parameters import AggregatedQuery
from fogmetrics.config import Config
from fogmetrics.parent import Parent
from fogmetrics.settings.tables import ShmConfig
from shm.metric import Metric
from shm.ring.layout import FLAG_CLOCK_STEP
from shm.ring.reader import Frames, RingReader
from tests.rings import SECOND_NS
from tests.siege.clocks import processes
from tests.siege.harness import Counts, Effort, Mutant, own_namespace, require

_SOURCE = "clocked"
_TICK = Metric("tick", "gauge", "The number of the tick.")
_SMALL_NS = 200_000_000  # a step below what counts as one
_SLEW_PPM = 500  # what NTP slews by at most
_INTERVALS = (0.1, 1.0, 15.0, 60.0)
_LINE = re.compile(r"^(\w+)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


class World(Stop):
    """Both clocks and what happens to them, for that many ticks. ``shown``: what they showed when each tick woke."""

    def __init__(self, chance: random.Random, interval_ns: int, ticks: int) -> None:
        super().__init__(Parent({}))
        self.chance = chance
        self.ticks = ticks
        self.interval_ns = interval_ns
        self.phase_ns = xxh3_64_intdigest(_SOURCE.encode()) % interval_ns
        self.wall_ns = 1_700_000_000 * SECOND_NS + chance.randrange(SECOND_NS * 86_400)
        self.monotonic_ns = chance.randrange(1, 86_400 * SECOND_NS)
        self.ppm = chance.randint(-_SLEW_PPM, _SLEW_PPM)
        self.shown: list[tuple[int, int]] = []
        self.deadlines: list[int] = []
        self.steps: list[int] = []  # how many of the wall clock's steps there were before each tick, from the second on
        self.moves = 0  # steps of any size: each may move the grid
        self._stepped = False
        self._quiet = True  # nothing happened yet since the tick before: one step at most between two

    def wall(self) -> int:
        return self.wall_ns

    def monotonic(self) -> int:
        return self.monotonic_ns

    def pass_time(self, ns: int) -> None:
        """Let so much time pass, perhaps with a step of the wall clock in it."""
        part = self.chance.randint(0, ns)
        self._advance(part)
        if self._quiet and self.chance.random() < 0.25:
            self._happen()
        self._advance(ns - part)

    def _advance(self, ns: int) -> None:
        self.monotonic_ns += ns
        self.wall_ns += ns + ns * self.ppm // 1_000_000

    def _happen(self) -> None:
        kind = self.chance.choice(("back", "forward", "set", "small", "suspend", "slew"))
        if kind == "slew":
            self.ppm = self.chance.randint(-_SLEW_PPM, _SLEW_PPM)
            return
        self._quiet = False
        self.moves += 1
        week = 7 * 86_400 * SECOND_NS
        self.wall_ns += {
            "back": -3600 * SECOND_NS,
            "forward": 86_400 * SECOND_NS,
            "set": self.chance.choice((-1, 1)) * self.chance.randint(SECOND_NS, week),
            "small": self.chance.choice((-1, 1)) * self.chance.randint(1, _SMALL_NS),
            "suspend": self.chance.randint(SECOND_NS, week // 2),  # the monotonic clock stands still meanwhile
        }[kind]
        self._stepped = kind != "small"

    def sleep_until(self, deadline_ns: int) -> bool:
        if len(self.shown) == self.ticks:
            return True
        wait = deadline_ns - self.monotonic_ns
        require(
            wait <= self.interval_ns * 3 // 2,
            f"a hang: it would sleep for {wait / self.interval_ns:.3g} intervals after {len(self.shown)} ticks",
        )
        off_ns = (self.wall_ns + wait - self.phase_ns) % self.interval_ns
        # The first comes soon after the start; after that the wall clock's grid is kept, as it is now.
        require(not off_ns or not self.deadlines, f"a tick is planned {off_ns} ns off the grid of the wall clock")
        self.deadlines.append(deadline_ns)
        self.pass_time(max(wait, 0))
        kind = self.chance.random()
        if kind < 0.2:  # stopped for up to six intervals
            self.pass_time(self.chance.randint(0, 6 * self.interval_ns))
        elif kind < 0.9:
            self.pass_time(self.chance.randint(0, min(3_000_000, self.interval_ns // 10)))
        self.steps.append((self.steps[-1] if self.steps else 0) + (self._stepped and bool(self.shown)))
        self.shown.append((self.wall_ns, self.monotonic_ns))
        self._stepped, self._quiet = False, True
        return False


class _Source(MetricSource):
    name = _SOURCE
    metrics = (_TICK,)

    def __init__(self, world: World) -> None:
        self._world = world

    def collect(self) -> CollectResult:
        world = self._world
        busy = world.interval_ns * 8 // 10 if world.chance.random() < 0.2 else world.interval_ns // 20
        world.pass_time(world.chance.randint(0, busy))
        return [Sample(_TICK.name, len(world.shown))]


def check(effort: Effort) -> Counts:
    logging.getLogger("collector.loop.worker").disabled = True  # a line for every step and tick that is missed
    chance = effort.random()
    ticks = steps = missed = windows = 0
    scenarios = effort.many(40, 5_000)
    for number in range(scenarios):
        with own_namespace() as namespace:
            world = _run(namespace, random.Random(f"{effort.seed} {number}"), chance.randint(20, 60))
            with RingReader(namespace, _SOURCE) as reader:
                frames = reader.frames()
                missed += _held(world, frames, reader)
                windows += _windows(world, reader, chance)
            windows += _pages(namespace, world, chance)
            ticks += len(world.shown)
            steps += world.steps[-1]
    return {
        "scenarios": scenarios,
        "simulated ticks": ticks,
        "steps and suspensions": steps,
        "ticks missed": missed,
        "windows compared": windows,
        **processes.check(effort),
    }


def _run(namespace: str, chance: random.Random, ticks: int) -> World:
    interval = chance.choice(_INTERVALS)
    world = World(chance, round(interval * 1e9), ticks)
    collector = MetricCollector(_SOURCE, namespace=namespace, interval_seconds=interval, capacity=ticks + 8)
    Worker(_Source(world), collector, interval, 60.0, world.wall, world.monotonic, world).run()
    return world


def _held(world: World, frames: Frames, reader: RingReader) -> int:
    """One frame a tick, with both clocks' times, never two within half an interval; the number of missed ticks."""
    half = world.interval_ns // 2
    require(
        frames.sequence.tolist() == list(range(1, len(world.shown) + 1)),
        f"{len(world.shown)} ticks made the frames {frames.sequence.tolist()}",
    )
    stamps = list(zip(frames.timestamp_ns.tolist(), frames.monotonic_ns.tolist(), strict=True))
    require(stamps == world.shown, "a frame has another time than the clocks showed when its tick woke")
    column = {series.metric.name: frames.values[:, series.column].tolist() for series in reader.series}
    require(column[_TICK.name] == list(range(1, len(stamps) + 1)), "a frame has another tick's sample")
    for (_, early), (_, late) in itertools.pairwise(world.shown):
        require(
            late - early >= half, f"bunching: two frames are {(late - early) / world.interval_ns:.3g} intervals apart"
        )
    found = column["collector_clock_steps_total"]
    require(found == world.steps, f"clock steps are counted as {found}, and were {world.steps}")
    flagged = [bool(flag & FLAG_CLOCK_STEP) for flag in frames.flags.tolist()]
    require(
        flagged == [False, *(late > early for early, late in itertools.pairwise(world.steps))],
        "the frames after a step of the clock are not those that are marked",
    )
    counted = column["collector_ticks_missed_total"]
    for i, total in enumerate(counted):
        passed = (world.deadlines[i] - world.deadlines[0]) / world.interval_ns
        # Ticks and missed ticks make up the time that passed; a step of the clock moves the grid by half an interval at
        # most, and so does the first tick, which is not on it.
        allowed = 0.5 * (world.moves + 1) + 0.3
        require(
            abs(passed - (i + total)) <= allowed,
            f"missed ticks are counted wrong: {i} ticks and {total:g} missed in {passed:.2f} intervals",
        )
    exact = [round((late - early) / world.interval_ns) - 1 for early, late in itertools.pairwise(world.deadlines)]
    total = sum(max(one, 0) for one in exact)
    require(
        abs(counted[-1] - total) <= world.moves, f"{counted[-1]:g} missed ticks are counted, and {total} were missed"
    )
    return int(counted[-1])


def _edges(world: World, chance: random.Random) -> tuple[int, int]:
    """The ends of a window: at or near the times of two frames."""
    one, other = (chance.choice(world.shown)[0] + chance.choice((0, 0, -1, 1, world.interval_ns // 3)) for _ in "ab")
    return min(one, other), max(one, other)


def _windows(world: World, reader: RingReader, chance: random.Random) -> int:
    for _ in range(20):
        since, until = _edges(world, chance)
        right = [i for i, (stamp, _) in enumerate(world.shown, 1) if since < stamp <= until]
        found = reader.frames(since, until).sequence.tolist()
        require(found == right, f"a window by timestamp has the frames {found} for {right}")
    return 20


def _pages(namespace: str, world: World, chance: random.Random) -> int:
    """/metrics/aggregated has the statistics of the window's frames, and names these."""
    now = [0]
    exporter = Exporter(dataclasses.replace(Config(), shm=ShmConfig(namespace=namespace)), wall=lambda: now[0])
    for _ in range(5):
        since, now[0] = _edges(world, chance)
        window_ns = max(now[0] - since, 1)
        query = AggregatedQuery(window_ns, metrics=(_TICK.name,), stats=("max",))
        page = b"".join(exporter.aggregated_parts(query, Format.TEXT)).decode()
        found = {name: float(value) for name, value in _LINE.findall(page)}
        held = [(stamp, i) for i, (stamp, _) in enumerate(world.shown, 1) if now[0] - window_ns < stamp <= now[0]]
        right: dict[str, float] = {
            "exporter_window_seconds": window_ns / 1e9,
            "exporter_window_frames": len(held),
            "exporter_window_skipped_frames": 0,
        }
        if held:
            right |= {
                _TICK.name: max(i for _, i in held),
                "exporter_window_first_timestamp_seconds": min(held)[0] / 1e9,
                "exporter_window_last_timestamp_seconds": max(held)[0] / 1e9,
            }
        require(found == right, f"a window does not say what it covers: {found} for {right}")
    exporter.close()
    return 5


MUTANTS = (
    Mutant(
        "clocks", "frames may be closer than half an interval", "collector.loop.schedule:Schedule.next",
        code="deadline_ns - max(self._last_ns, ticked_ns) < self.interval_ns // 2", becomes="False",
        says="bunching", scale=0.5,
    ),
    Mutant(
        "clocks", "missed ticks are not counted", "collector.loop.schedule:Schedule.next",
        patch="def fault(self, ticked_ns=0): return original(self, ticked_ns)[0], 0", says="missed", scale=0.5,
    ),
    Mutant(
        "clocks", "the deadline is on the wall clock", "collector.loop.schedule:Schedule.next",
        code="self._monotonic()", becomes="self._wall()", says="a hang", scale=0.5,
    ),
    Mutant(
        "clocks", "the grid has no phase", "collector.loop.schedule:Schedule.next",
        code="self._wall() - self.phase_ns", becomes="self._wall()", says="off the grid", scale=0.5,
    ),
    Mutant(
        "clocks", "steps of the clock are not seen", "collector.loop.schedule:Schedule.clock_stepped",
        patch="def fault(self, wall_ns, monotonic_ns): return False", says="clock steps are counted", scale=0.5,
    ),
    Mutant(
        "clocks", "a window has the frame at its open end", "shm.ring.windows:within",
        code="stamps > since_ns", becomes="stamps >= since_ns", says="a window by timestamp has", scale=0.5,
    ),
    Mutant(
        "clocks", "a window is said to begin at its first frame", "exporter.window.coverage:Coverage.render",
        code="stamps.min()", becomes="stamps[0]", says="does not say what it covers", scale=0.5,
    ),
)  # fmt: skip
