"""Prove what readers see while series come and go: ``python -m tests.siege.churn.readers KIND NAMESPACE PLAN``.

``rings`` follows the ring by the exporter's RingSet, ``page`` reads /metrics/aggregated of an exporter. Each proves
whatever it reads by the plan, until it has read the plan's last frame, and then prints how much that was.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import numpy as np

from exporter.app import Exporter
from exporter.http.negotiation import Format
from exporter.http.parameters import AggregatedQuery
from exporter.rings import RingSet
from fogmetrics.config import Config
from fogmetrics.settings.tables import ShmConfig
from shm.ring.frame import absent
from tests.rings import SECOND_NS
from tests.siege.churn.plan import COUNTER, METRICS, STARTED_NS, STRIDE, Plan, prove_frames
from tests.siege.harness import require
from tests.siege.processes import Done, main

LIMIT_SECONDS: Final = 300.0
_WEEK_NS: Final = 7 * 86_400 * SECOND_NS
# Files of segments that are open: of /metrics and of /metrics/aggregated one each, and as many just replaced.
_MOST_SEGMENTS: Final = 4
_SAMPLE = re.compile(r'^(\w+)\{(?:k="(\d+)",stat="(\w+)"|source="churn")\} (\S+)$', re.MULTILINE)

Reading = tuple[int, int, int]  # newest sequence, frames proven, samples proven


def _by_rings(namespace: str, plan: Plan) -> Iterator[Reading]:
    rings = RingSet(namespace)
    while True:
        newest = read = samples = 0
        for ring in rings.refresh():
            if ring.sequence == 0:
                continue
            for series in ring.series:
                if series.metric not in METRICS or series.column >= len(ring.latest):
                    continue
                number, found = int(series.label_values[0]), ring.latest[series.column : series.column + 1]
                wanted = plan.present(np.array([number]), np.array([ring.sequence]))[0, 0]
                right = [number * STRIDE + ring.sequence] if wanted else []
                there = found[~absent(found)].tolist()
                what = "is lost" if right and not there else "is credited to another series"
                require(there == right, f"by RingSet, latest: a sample {what}: series {number}, frame {ring.sequence}")
            frames = ring.reader.frames(None, None)
            samples += prove_frames(plan, frames, ring.series, "by RingSet")
            newest, read = ring.sequence, read + len(frames.sequence)
        require(not rings.errors, f"by RingSet: the ring can't be read: {rings.errors}")
        yield newest, read, samples


def _by_page(namespace: str, plan: Plan) -> Iterator[Reading]:
    config = dataclasses.replace(Config(), shm=ShmConfig(namespace=namespace))
    exporter = Exporter(config, wall=lambda: plan.timestamp_ns(plan.frames + 1))
    query = AggregatedQuery(_WEEK_NS, metrics=tuple(one.name for one in METRICS), stats=("max", "increase"))
    while True:
        before = max((ring.sequence for ring in exporter.rings.refresh()), default=0)
        text = b"".join(exporter.aggregated_parts(query, Format.TEXT))
        yield _prove_page(plan, text.decode(), before)


def _prove_page(plan: Plan, page: str, before: int) -> Reading:
    """``before``: the newest frame when the page was asked for; series that began later may be missing."""
    covered: dict[str, float] = {}
    found: dict[int, float] = {}
    for name, k, stat, number in _SAMPLE.findall(page):
        if k:
            own = (stat == "increase") == (name == COUNTER.name)
            require(own, f"by page: {name} has the statistic {stat!r} of another type")
            found[int(k)] = float(number)
        else:
            covered[name] = float(number)
    read = int(covered.get("exporter_window_frames", 0))
    if not read:
        return before, 0, 0
    first, last = (
        round((covered[f"exporter_window_{which}_timestamp_seconds"] - STARTED_NS / 1e9) / plan.interval_seconds)
        for which in ("first", "last")
    )
    skipped = int(covered["exporter_window_skipped_frames"])
    require(read + skipped > last - first, f"by page: {read} frames from {first} to {last}, {skipped} skipped")
    if skipped:
        return before, read, 0
    sequences = np.arange(first, last + 1)
    here = plan.present(np.arange(plan.series), sequences)
    for k in np.flatnonzero(here.any(axis=0)).tolist():
        mine = sequences[here[:, k]]
        if plan.metric(k) is COUNTER and len(mine) < 2:
            continue
        right = float(mine[-1] - mine[0] if plan.metric(k) is COUNTER else k * STRIDE + mine[-1])
        known = k in found or mine[0] > before
        require(known, f"by page: a sample is lost: series {k} of frame {mine[-1]} is not there")
        there = found.pop(k, right)
        require(there == right, f"by page: a sample is credited to another series: {k} has {there} for {right}")
    require(not found, f"by page: samples are there that were not recorded, of the series {sorted(found)[:5]}")
    return before, read, int(here.sum())


def _prove(by: Callable[[str, Plan], Iterator[Reading]], namespace: str, text: str) -> Done:
    plan = Plan(**json.loads(text))
    frames = samples = readings = 0
    limit = time.monotonic() + LIMIT_SECONDS
    everything = by(namespace, plan)  # kept, because what it holds open is counted below
    for newest, read, proven in everything:
        frames, samples, readings = frames + read, samples + proven, readings + 1
        if newest >= plan.frames:
            break
        require(time.monotonic() < limit, f"after {LIMIT_SECONDS:g} s the newest frame is {newest}")
        time.sleep(0.02)
    held = sum(os.path.basename(path).startswith("fogmetrics.") for path in _open_files())
    require(held <= _MOST_SEGMENTS, f"the reader holds {held} segments: replaced ones are not closed")
    return {
        "times that readers read the ring": readings, "frames that they proved": frames,
        "samples that they proved": samples,
    }  # fmt: skip


def _open_files() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the one that lists them is closed
            yield os.readlink(f"/proc/self/fd/{name}")


if __name__ == "__main__":
    raise SystemExit(main({"rings": partial(_prove, _by_rings), "page": partial(_prove, _by_page)}))
