"""Judge what the faults left: the history of each ring, and what Prometheus stored meanwhile."""

from __future__ import annotations

import bisect
import itertools
import re
from collections import Counter
from collections.abc import Sequence

from tests.prometheus import Prometheus
from tests.rings import SECOND_NS
from tests.siege.daemon import proof
from tests.siege.daemon.faults import SUPERVISORD, Fault
from tests.siege.daemon.rings import History, Key, Rings, named
from tests.siege.harness import require

# After supervisord is killed: its processes end with their tick, and may still hold their locks when others start.
_HANDOVER_NS = 8 * SECOND_NS
_RESTART_NS = 30 * SECOND_NS  # a program that takes longer to come back hangs
_SCRAPE_NS = 1_100_000_000  # Prometheus waits a second for an answer
_NO_ANSWER = re.compile(r"connection refused|connection reset|context deadline exceeded|EOF|broken pipe")


def judge_history(ring: History, faults: Sequence[Fault], counts: Counter[str]) -> None:
    """The sequences have no hole, frames have not changed, and each gap in time has a fault or counted missed ticks."""
    ring.catch_up(again=ring.capacity)
    holes = sorted(set(range(1, max(ring.held) + 1)) - set(ring.held))
    require(not holes, f"the history of ring {ring.source!r} has holes: no frame was ever whole at {holes[:10]}")
    concerned = [fault for fault in faults if fault.program in (ring.source, SUPERVISORD)]
    missed = "collector_ticks_missed_total", frozenset({("source", ring.source)})
    for one, two in itertools.pairwise(ring.held[sequence] for sequence in sorted(ring.held)):
        gap_ns = two.monotonic_ns - one.monotonic_ns
        where = f"ring {ring.source!r}, frames {one.sequence} and {two.sequence}"
        require(gap_ns > 0, f"{where}: the second is {gap_ns} ns later")
        if gap_ns <= 1.5 * ring.interval_ns:
            continue
        causes = [fault for fault in concerned if _touches(fault, one.monotonic_ns, two.monotonic_ns)]
        if causes:
            counts["gaps in them, each explained by a fault"] += 1
            most_ns = len(causes) * _RESTART_NS + sum(one.end_ns - one.at_ns for one in causes if one.what == "stop")
            require(gap_ns <= most_ns, f"{where}: a gap of {gap_ns / 1e9:.3f} s, longer than its faults explain")
        else:
            # On a busy machine ticks are late or missed. The collector counts those that it missed; one of the gap's
            # two ends may be late besides, and of the next frame the count is known.
            later = ring.held.get(two.sequence + 1, two)
            counted = later.samples.get(missed, 0.0) - one.samples.get(missed, 0.0)
            require(
                counted >= gap_ns // ring.interval_ns - 2,
                f"{where}: a gap of {gap_ns / 1e9:.3f} s, with no fault in it, and {counted:g} missed ticks counted",
            )
    counts["frames in the histories"] += ring.last


def _touches(fault: Fault, since_ns: int, until_ns: int) -> bool:
    if fault.what == "kill" and fault.program == SUPERVISORD:
        return fault.at_ns <= until_ns and fault.at_ns + _HANDOVER_NS >= since_ns
    return fault.overlaps(since_ns, until_ns)


def judge_proof(ring: History) -> int:
    """Every frame of the proving source is of one moment, and its histogram has all observations up to then."""
    bounds = (*proof.BUCKETS, float("inf"))
    expected = [0.0] * (len(bounds) + 1)
    proven = 0
    for sequence in sorted(ring.held):
        buckets, samples = dict[float, float](), dict[str, float]()
        for (name, labels), value in ring.held[sequence].samples.items():
            if name == "proof_observed_bucket":
                buckets[float(dict(labels)["le"])] = value
            elif not labels:
                samples[name] = value
        moment = samples.get("proof_moment")
        if moment is None:  # the collection failed: it was stopped meanwhile, and timed out
            require(not any(name.startswith("proof_") for name in samples), f"frame {sequence} has no proof_moment")
            continue
        require(samples["proof_moments_total"] == moment, f"frame {sequence} of ring 'proof' is of two moments")
        seen = proof.observed(moment)
        expected = [a + b for a, b in zip(expected, [*(float(seen <= bound) for bound in bounds), seen], strict=True)]
        found = [*(buckets[bound] for bound in bounds), samples["proof_observed_sum"]]
        require(
            found == expected and samples["proof_observed_count"] == expected[-2],
            f"frame {sequence} of ring 'proof': the histogram is {found}, all observations make {expected}",
        )
        proven += 1
    return proven


# ---- Prometheus ------------------------------------------------------------------------------------------------


def judge_last_errors(errors: dict[str, str]) -> None:
    """A scrape may go without an answer; an answer that Prometheus can't take is a violation."""
    for job, error in errors.items():
        require(not error or _NO_ANSWER.search(error), f"Prometheus could not take a page of job {job}: {error}")


def judge_prometheus(prometheus: Prometheus, rings: Rings, counts: Counter[str]) -> None:
    """Prometheus complained of nothing, saw no counter go back, and stored what the rings held."""
    log = prometheus.log_path.read_text().splitlines()
    bad = [line for line in log if "level=error" in line or "level=warn" in line]
    require(not bad, f"Prometheus complains: {bad[:3]}")
    for one in prometheus.query("up[1d]"):
        counts["scrapes by Prometheus"] += sum(value == "1" for _, value in one["values"])
    rising = {column.key for ring in rings.by_source.values() for column in ring.columns if column.rises}
    appended: dict[Key, list[tuple[int, float]]] = {}
    limit_ns = max(ring.limit_ns for ring in rings.by_source.values())
    for ring in rings.by_source.values():
        for frame in ring.held.values():
            for key, value in frame.samples.items():
                appended.setdefault(key, []).append((frame.timestamp_ns, value))
    for one in prometheus.query('{job="fogmetrics",__name__!~"up|(scrape|exporter|process)_.*"}[1d]'):
        labels = {name: value for name, value in one["metric"].items() if name not in ("__name__", "job", "instance")}
        key = one["metric"]["__name__"], frozenset(labels.items())
        require(key in appended, f"Prometheus has {named(key)}, which was in no frame")
        frames = sorted(appended[key])
        stored = [float(text) for _, text in one["values"]]
        require(key not in rising or stored == sorted(stored), f"Prometheus saw {named(key)} go back: {stored}")
        for at, text in one["values"]:
            at_ns, value = round(float(at) * 1e9), float(text)
            first = bisect.bisect(frames, (at_ns - limit_ns - SECOND_NS // 100, -float("inf")))
            end = bisect.bisect(frames, (at_ns + _SCRAPE_NS, float("inf")))
            require(
                value in [held for _, held in frames[first:end]],
                f"Prometheus has {named(key)} as {value} at {at}; no frame that was fresh then has it",
            )
            counts["samples in Prometheus, each of a frame"] += 1
