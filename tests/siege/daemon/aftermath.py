"""What is judged when the faults are over: the history of each ring, and what Prometheus stored meanwhile."""

from __future__ import annotations

import bisect
import itertools
import re
from collections import Counter
from collections.abc import Sequence

from collector.loop.schedule import Schedule
from shm.ring.reader import RingReader
from tests.prometheus import JOBS, Prometheus
from tests.siege.daemon import proof
from tests.siege.daemon.faults import SUPERVISORD, Fault
from tests.siege.daemon.truth import SECOND_NS, Held, History, Key, Truth, layout_of, named
from tests.siege.harness import Violation, require

# After supervisord is killed: its processes end with their tick, the successor's may find their locks held first.
_HANDOVER_NS = 8 * SECOND_NS
_RESTART_NS = 30 * SECOND_NS  # a program that takes longer to come back hangs
_SCRAPE_NS = 1_100_000_000  # Prometheus waits a second for an answer
_NO_ANSWER = re.compile(r"connection refused|connection reset|context deadline exceeded|EOF|broken pipe")


# ---- the rings -------------------------------------------------------------------------------------------------


def judge_history(ring: History, faults: Sequence[Fault], counts: Counter[str]) -> None:
    """No hole in the sequences, and none in time that no fault explains; no tick doubled."""
    concerned = [fault for fault in faults if fault.program in (ring.source, SUPERVISORD)]
    holes = sorted(set(range(1, max(ring.held) + 1)) - set(ring.held))
    require(not holes, f"the history of ring {ring.source!r} has holes: no frame was ever whole at {holes[:10]}")
    phase_ns = Schedule(ring.source, ring.interval_ns).phase_ns
    for sequence in range(1, ring.last):
        one, two = ring.held[sequence], ring.held[sequence + 1]
        _judge_step(ring, one, two, concerned, phase_ns, counts)
    for fault in concerned:
        if fault.what == "stop" and fault.program == ring.source:
            _judge_missed(ring, fault, concerned, counts)
    counts["frames in the histories"] += ring.last


def _judge_step(
    ring: History, one: Held, two: Held, faults: Sequence[Fault], phase_ns: int, counts: Counter[str]
) -> None:
    """From one frame to the next: neither a gap without a reason, nor two frames for one tick."""
    interval_ns, gap_ns = ring.interval_ns, two.monotonic_ns - one.monotonic_ns
    where = f"ring {ring.source!r}, frames {one.sequence} and {two.sequence}"
    require(gap_ns > 0, f"{where}: the second is {gap_ns} ns later")
    if gap_ns > 1.5 * interval_ns:
        causes = [fault for fault in faults if _touches(fault, one.monotonic_ns, two.monotonic_ns)]
        if causes:
            counts["gaps in them, each explained by a fault"] += 1
            stopped_ns = sum(fault.end_ns - fault.at_ns for fault in causes if fault.what == "stop")
            most_ns = stopped_ns + len(causes) * _RESTART_NS
            require(gap_ns <= most_ns, f"{where}: a gap of {gap_ns / 1e9:.3f} s, longer than its faults explain")
            return
        # A machine that is busy otherwise may be late: then the collector itself says which ticks it missed. A tick
        # that comes late by itself is not one that was missed.
        counted = _missed(ring, two.sequence + 1) - _missed(ring, one.sequence)
        late = any((frame.timestamp_ns - phase_ns) % interval_ns > interval_ns // 8 for frame in (one, two))
        skipped = gap_ns // interval_ns - 2 if late else round(gap_ns / interval_ns) - 1
        require(
            counted >= skipped,
            f"{where}: a gap of {gap_ns / 1e9:.3f} s, with no fault in it, and {counted:g} missed ticks counted",
        )
    elif gap_ns < interval_ns // 2:
        late_ns = (one.timestamp_ns - phase_ns) % interval_ns
        recent = [f for f in faults if _touches(f, one.monotonic_ns - 2 * interval_ns, two.monotonic_ns)]
        require(
            late_ns > interval_ns // 4 or recent,
            f"{where}: only {gap_ns / 1e9:.3f} s from one to the next, the first was in time and no fault is near",
        )


def _touches(fault: Fault, since_ns: int, until_ns: int) -> bool:
    if fault.what == "kill" and fault.program == SUPERVISORD:
        return fault.at_ns <= until_ns and fault.at_ns + _HANDOVER_NS >= since_ns
    return fault.overlaps(since_ns, until_ns)


def _judge_missed(ring: History, fault: Fault, faults: Sequence[Fault], counts: Counter[str]) -> None:
    """A collector that was stopped for long, and lived on, has counted the ticks that it missed."""
    ticks = (fault.end_ns - fault.at_ns) // ring.interval_ns
    others = [one for one in faults if (one is not fault and one.program != SUPERVISORD) or one.what == "kill"]
    if ticks < 3 or any(_touches(one, fault.at_ns - SECOND_NS, fault.end_ns + 3 * SECOND_NS) for one in others):
        return
    stamps = [ring.held[sequence].monotonic_ns for sequence in range(1, ring.last + 1)]
    before, after = bisect.bisect(stamps, fault.at_ns), bisect.bisect(stamps, fault.end_ns) + 2
    if before < 1 or after > ring.last:
        return
    if fault.at_ns - stamps[before - 1] > 1.5 * ring.interval_ns:
        return  # it was yet to begin: what was started a moment ago, after waiting for its turn, has missed nothing
    counted = _missed(ring, after) - _missed(ring, before)
    require(
        counted >= ticks - 2, f"{ring.source} was stopped for {ticks} ticks ({fault}), and counts {counted:g} as missed"
    )
    counts["stops whose missed ticks the collector counted"] += 1


def _missed(ring: History, sequence: int) -> float:
    held = ring.held[min(sequence, ring.last)]
    return held.samples().get(("collector_ticks_missed_total", frozenset({("source", ring.source)})), 0.0)


def judge_proof(ring: History) -> int:
    """Every frame of the proving source proves itself, and its histogram is the sum of all observations before."""
    bounds = (*proof.BUCKETS, float("inf"))
    expected: list[float] | None = None
    proven = 0
    for sequence in range(1, ring.last + 1):
        samples = {name: value for (name, labels), value in ring.held[sequence].samples().items() if not labels}
        if "proof_moment" not in samples:
            continue
        buckets = {
            float(dict(labels)["le"]): value
            for (_, labels), value in ring.held[sequence].samples().items()
            if "le" in dict(labels)
        }
        fault = proof.fault_of(samples, buckets)
        require(not fault, f"frame {sequence} of ring 'proof' contradicts itself: {fault}")
        seen = proof.observed(samples["proof_moment"])
        now = [*(buckets[bound] for bound in bounds), samples["proof_observed_sum"]]
        before = expected or [0.0] * len(now)
        added = [*(float(seen <= bound) for bound in bounds), seen]
        expected = [a + b for a, b in zip(before, added, strict=True)]
        require(
            now == expected,
            f"frame {sequence} of ring 'proof': the histogram is {now}, all observations make {expected}",
        )
        proven += 1
    return proven


def judge_ring_file(ring: History) -> None:
    """What a reader finds in the ring now is what was read when it was new."""
    with RingReader(ring.namespace, ring.source) as reader:
        frames, layout = reader.frames(), layout_of(reader.series)
    found = frames.sequence.tolist()
    true = [frame.sequence for frame in ring.window(ring.last)]
    require(found == true, f"ring {ring.source!r} holds {found}, not {true}")
    for i, sequence in enumerate(found):
        held = ring.held[sequence]
        columns = {column.key: column.at for column in layout.columns}
        same = all(frames.values[i, columns[key]] == value for key, value in held.samples().items())
        require(same and held.timestamp_ns == frames.timestamp_ns[i], f"frame {sequence} of {ring.source!r} changed")


# ---- Prometheus ------------------------------------------------------------------------------------------------


def judge_last_errors(errors: dict[str, str]) -> None:
    """A scrape may go without an answer; an answer that Prometheus could not take is a fault."""
    for job, error in errors.items():
        require(not error or _NO_ANSWER.search(error), f"Prometheus could not take a page of job {job}: {error}")


def judge_prometheus(prometheus: Prometheus, truth: Truth, restarts: int, counts: Counter[str]) -> None:
    """What Prometheus stored is what the rings held; it dropped nothing, and complained of nothing."""
    log = prometheus.log_path.read_text()
    bad = [line for line in log.splitlines() if "level=error" in line or "level=warn" in line]
    require(not bad, f"Prometheus complains: {bad[:3]}")
    for job in JOBS:
        # In one query: between two of them a scrape may be stored.
        found = prometheus.query(f'{{__name__=~"scrape_samples_(scraped|post_metric_relabeling)",job="{job}"}}[1d]')
        scraped, kept = (one["values"] for one in found)
        require(scraped == kept, f"Prometheus dropped samples of job {job}")
        counts["scrapes by Prometheus"] += sum(float(value) > 0 for _, value in scraped)
    ours = "(proof|betanet|collector|deployment_latency)_.*(_total|_bucket|_count|_sum)"
    names = {
        one["metric"]["__name__"]
        for one in prometheus.query(f'last_over_time({{job="fogmetrics",__name__=~"{ours}"}}[1d])')
    }
    require("proof_observed_count" in names, f"Prometheus has no counters of ours: {names}")
    for name in sorted(names):
        for one in prometheus.query(f'resets({name}{{job="fogmetrics"}}[1d]) > 0'):
            raise Violation(f"Prometheus saw {name} go back: {one}")
    for one in prometheus.query('resets(exporter_requests_total{job="fogmetrics"}[1d])'):
        require(float(one["value"][1]) <= restarts, f"more resets than restarts of the exporter ({restarts}): {one}")
    _judge_samples(prometheus, truth, counts)


def _judge_samples(prometheus: Prometheus, truth: Truth, counts: Counter[str]) -> None:
    """Each sample was in a frame that was fresh when Prometheus asked."""
    appended: dict[Key, list[tuple[int, float]]] = {}
    limit_ns = max(ring.limit_ns for ring in truth.rings.values())
    for ring in truth.rings.values():
        for frame in ring.held.values():
            for key, value in frame.samples().items():
                appended.setdefault(key, []).append((frame.timestamp_ns, value))
    for one in prometheus.query('{job="fogmetrics"}[1d]'):
        labels = {name: value for name, value in one["metric"].items() if name not in ("__name__", "job", "instance")}
        key = one["metric"]["__name__"], frozenset(labels.items())
        if key[0] == "up" or key[0].startswith(("scrape_", "exporter_", "process_")):
            continue
        require(key in appended, f"Prometheus has {named(key)}, which was in no frame")
        frames = sorted(appended[key])
        for at, text in one["values"]:
            at_ns, value = round(float(at) * 1e9), float(text)
            first = bisect.bisect(frames, (at_ns - limit_ns - SECOND_NS // 100, -float("inf")))
            near = itertools.takewhile(lambda frame: frame[0] <= at_ns + _SCRAPE_NS, frames[first:])  # noqa: B023
            require(
                any(held == value for _, held in near),
                f"Prometheus has {named(key)} as {value} at {at}; no frame that was fresh then has it",
            )
            counts["samples in Prometheus, each of a frame"] += 1
