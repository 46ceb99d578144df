"""Scrapes, and the judgement on each: an answer is valid and says what the rings hold; no answer has its fault.

A page was made between two moments, before and after. What it may say is bounded by what the rings held at both: the
series of a source are those of one frame, no older than the newest before, and not stale at the first moment; where
they are left out, that frame was stale at the second.
"""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from tests import http_client
from tests.programs import find_program
from tests.siege.daemon import proof
from tests.siege.daemon.faults import SUPERVISORD, Fault
from tests.siege.daemon.truth import Held, History, Key, Truth, aggregated, agree, named
from tests.siege.harness import Violation, require

_OPENMETRICS = "application/openmetrics-text; version=1.0.0"
_TIMEOUT_SECONDS = 3.0
_OWN = ("exporter_", "process_")
_OWN_AGE_NS = 1_100_000_000  # the exporter's own metrics may be a second old
_RESTART_NS = 30_000_000_000  # no exporter for so long after a fault: it hangs
_SUM_TOLERANCE = 1e-9  # of a float64's sum in another order


@dataclass(slots=True)
class Scrapes:
    """Asks the exporter at ``url`` for its pages, one after the other; ``faults`` is the log of what is done to it."""

    url: str
    truth: Truth
    faults: Sequence[Fault]
    counts: Counter[str] = field(default_factory=Counter)
    _client: httpx.Client = field(default_factory=lambda: http_client.client(timeout=_TIMEOUT_SECONDS))
    _begun: float = 0.0  # the exporter's start, in Unix seconds, as its last page said
    _answered_ns: int = 0

    def close(self) -> None:
        self._client.close()

    def metrics(self, openmetrics: bool = False, promtool: bool = False) -> None:
        answer = self._get("/metrics", accept=_OPENMETRICS if openmetrics else "text/plain")
        if answer is None:
            return
        reply, moment = answer
        require(reply.status_code == 200, f"/metrics answered {reply.status_code}: {reply.text[:200]}")
        samples = parsed(reply.text, openmetrics)
        if promtool and not openmetrics:
            self.check_by_promtool(reply.content)
        pages = self._by_ring(samples)
        for source, ring in self.truth.rings.items():
            self._judge(ring, pages.get(source, {}), moment)
        self._judge_own(samples, moment)
        begun = samples.get(("process_start_time_seconds", frozenset()))
        if begun is not None:
            self._begun = begun
        if pages.get(proof.NAME):
            fault = _proof_fault(pages[proof.NAME])
            require(not fault, f"/metrics contradicts itself: {fault}")
        self.counts["pages of /metrics"] += 1
        self.counts["samples on them"] += len(samples)

    def aggregated(self) -> None:
        answer = self._get("/metrics/aggregated?window=1h", accept="text/plain")
        if answer is None:
            return
        reply, moment = answer
        require(reply.status_code == 200, f"/metrics/aggregated answered {reply.status_code}: {reply.text[:200]}")
        samples = parsed(reply.text, openmetrics=False)
        owners = {
            series: source
            for source, ring in self.truth.rings.items()
            if ring.last
            for series in ring.held[ring.last].layout.series
        }
        pages: dict[str, dict[Key, float]] = {}
        for (name, labels), value in samples.items():
            if name.startswith(_OWN):
                continue
            series = name, frozenset(pair for pair in labels if pair[0] != "stat")
            require(series in owners, f"/metrics/aggregated has {named((name, labels))}, which no ring has")
            pages.setdefault(owners[series], {})[name, labels] = value
        for source, ring in self.truth.rings.items():
            page = pages.get(source, {})
            # An exporter that was stopped in the midst of its copy finds the oldest slots lapped, and says so.
            skipped = int(samples.get(("exporter_window_skipped_frames", frozenset({("source", source)})), 0))
            said = [
                agree(page, aggregated(frames[lapped : len(frames) - later]), _SUM_TOLERANCE)
                for newest in ring.newest(moment.heads.get(source, 0))
                for frames in [ring.window(newest.sequence)]
                for lapped in range(skipped + 1)
                # The window ends at a moment after that of the request. Frames begun since may be beyond it: the
                # newest, or all that came while the exporter was stopped between its look at the clock and at the ring.
                for later in range(max(1, sum(frame.monotonic_ns > moment.before_ns for frame in frames)) + 1)
            ]
            require(not said or "" in said, f"/metrics/aggregated is not what ring {source!r} held: {said[-1:]}")
        self.counts["pages of /metrics/aggregated"] += 1

    def health(self) -> None:
        answer = self._get("/health")
        if answer is None:
            return
        reply, moment = answer
        found = reply.json()["sources"]
        for source, ring in self.truth.rings.items():
            if not moment.heads.get(source):
                continue
            status = found.get(source, {}).get("status")
            frames = ring.newest(moment.heads[source])
            require(status in ("fresh", "stale"), f"/health says {status!r} of {source}, whose ring is whole")
            self._judge_freshness(ring, status == "fresh", moment, "/health")
            ups = {_up(frame, source) for frame in frames} if status == "fresh" else {None}
            up = found[source]["up"]
            require(up in ups, f"/health says up {up} of {source}, its frames say {ups}")
        fresh = any(one["status"] == "fresh" for one in found.values())
        require(reply.status_code == (200 if fresh else 503), f"/health answers {reply.status_code} with {found}")
        self.counts["pages of /health and /stats"] += 1

    def stats(self) -> None:
        answer = self._get("/stats")
        if answer is None:
            return
        reply, moment = answer
        require(reply.status_code == 200, f"/stats answered {reply.status_code}")
        found: dict[str, Any] = reply.json()
        require(not found["errors"] and not found["conflicts"], f"/stats has errors: {found['errors']}")
        for source, ring in self.truth.rings.items():
            if not moment.heads.get(source):
                continue
            one = found["rings"][source]
            possible = range(moment.heads[source], ring.last + 1)
            require(one["sequence"] in possible, f"/stats: sequence {one['sequence']} of {source}, not {possible}")
            held = {len(ring.window(newest)) for newest in possible}
            require(one["frames"] in held, f"/stats: {one['frames']} frames of {source}, not {held}")
            self._judge_freshness(ring, not one["stale"], moment, "/stats")
        rings = found["rings"].values()
        require(found["total_bytes"] == sum(one["bytes"] for one in rings), "/stats: total_bytes is not the sum")
        require("proof_moment" in found["registered_metrics"], "/stats does not register proof_moment")
        self.counts["pages of /health and /stats"] += 1

    def check_by_promtool(self, page: bytes) -> None:
        run = subprocess.run(
            [find_program("promtool"), "check", "metrics"], input=page, capture_output=True, timeout=30
        )
        said = (run.stdout + run.stderr).decode()
        require(run.returncode == 0 and not said, f"promtool says of /metrics: {said}")
        self.counts["pages checked by promtool"] += 1

    # ---- the judgement ---------------------------------------------------------------------------------------

    def _by_ring(self, samples: dict[Key, float]) -> dict[str, dict[Key, float]]:
        owners, pages = self.truth.owners(), dict[str, dict[Key, float]]()
        for key, value in samples.items():
            if not key[0].startswith(_OWN):
                require(key in owners, f"/metrics has {named(key)}, which no ring has")
                pages.setdefault(owners[key], {})[key] = value
        return pages

    def _judge(self, ring: History, page: dict[Key, float], moment: _Moment) -> None:
        """The series of one ring on a page of /metrics."""
        self._judge_freshness(ring, bool(page), moment, "/metrics")
        if not page:
            self.counts["sources left out as stale"] += 1
            return
        frames = ring.newest(moment.heads.get(ring.source, 0))
        said = [agree(page, frame.samples()) for frame in frames]
        require("" in said, f"/metrics does not have the newest frame of ring {ring.source!r}: {said[-1:]}")

    def _judge_freshness(self, ring: History, fresh: bool, moment: _Moment, page: str) -> None:
        frames = ring.newest(moment.heads.get(ring.source, 0))
        if fresh:
            age_ns = moment.before_ns - max((frame.monotonic_ns for frame in frames), default=0)
            require(
                age_ns <= ring.limit_ns,
                f"{page} has {ring.source} as fresh, whose newest frame was stale: {age_ns / 1e9:.3f} s old",
            )
        elif moment.heads.get(ring.source):
            age_ns = moment.after_ns - min(frame.monotonic_ns for frame in frames)
            require(
                age_ns > ring.limit_ns,
                f"{page} has {ring.source} as stale, whose frame was fresh: {age_ns / 1e9:.3f} s old",
            )

    def _judge_own(self, samples: dict[Key, float], moment: _Moment) -> None:
        """What the exporter says of the rings: freshness and writers, up to a second old."""
        earlier_ns = moment.before_ns - _OWN_AGE_NS
        for source, ring in self.truth.rings.items():
            label = frozenset({("source", source)})
            fresh = samples.get(("exporter_ring_fresh", label))
            alive = samples.get(("exporter_ring_writer_alive", label))
            stamps = [frame.monotonic_ns for frame in ring.held.values() if frame.seen_ns < earlier_ns]
            if fresh == 1:
                newest_ns = ring.held[ring.last].monotonic_ns
                require(newest_ns >= earlier_ns - ring.limit_ns, f"exporter_ring_fresh is 1 for stale {source}")
            elif fresh == 0 and stamps:
                require(max(stamps) <= moment.after_ns - ring.limit_ns, f"exporter_ring_fresh is 0 for fresh {source}")
            if alive == 1:
                died_ns = [
                    one.at_ns
                    for one in list(self.faults)
                    if one.what == "kill" and one.pid == ring.pid and one.at_ns > ring.pid_begun_ns
                ]
                require(
                    not died_ns or died_ns[0] > earlier_ns - _OWN_AGE_NS,
                    f"exporter_ring_writer_alive is 1 for {source}, whose writer was killed "
                    f"{(moment.before_ns - max(died_ns, default=0)) / 1e9:.3f} s before",
                )

    # ---- asking ----------------------------------------------------------------------------------------------

    def _get(self, path: str, **headers: str) -> tuple[httpx.Response, _Moment] | None:
        """The answer and when it was made; None, and counted, where a fault explains that there is none."""
        heads = self.truth.catch_up()
        before_ns = time.monotonic_ns()
        try:
            reply = self._client.get(f"{self.url}{path}", headers=headers)
        except httpx.TransportError as error:
            after_ns = time.monotonic_ns()
            self.truth.catch_up()
            require(
                self._explained(before_ns, after_ns),
                f"GET {path} got no answer ({type(error).__name__}: {error}), and no fault explains it",
            )
            self.counts["scrapes without an answer, each explained by a fault"] += 1
            return None
        after_ns = time.monotonic_ns()
        self.truth.catch_up()
        self._answered_ns = before_ns
        return reply, _Moment(before_ns, after_ns, heads)

    def _explained(self, before_ns: int, after_ns: int) -> bool:
        """Whether the exporter was stopped then, or killed and no exporter begun since has answered yet."""
        offset_ns = time.time_ns() - time.monotonic_ns()
        for fault in reversed(list(self.faults)):
            if fault.what == "stop":
                if fault.program == "exporter" and fault.overlaps(before_ns, after_ns):
                    return True
            # The start of a process is known by a boot time in whole seconds.
            elif (
                fault.program in ("exporter", SUPERVISORD)
                and fault.at_ns <= after_ns
                and self._begun * 1e9 < fault.at_ns + offset_ns + 1_000_000_000
            ):
                return before_ns - fault.at_ns < _RESTART_NS
        return False


@dataclass(frozen=True, slots=True)
class _Moment:
    """When a page was made: after ``before_ns``, before ``after_ns``; the rings' heads before."""

    before_ns: int
    after_ns: int
    heads: dict[str, int]


def parsed(text: str, openmetrics: bool) -> dict[Key, float]:
    """The samples of a page. Raises Violation where prometheus_client does not take it, or a sample is there twice."""
    try:
        families: list[Metric] = list((openmetrics_families if openmetrics else text_string_to_metric_families)(text))
    except ValueError as error:
        raise Violation(f"a page is no valid exposition: {error}") from error
    found: dict[Key, float] = {}
    for family in families:
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            require(key not in found, f"a page has {named(key)} twice")
            found[key] = sample.value
    require(found, "a page has no sample")
    return found


def _proof_fault(page: dict[Key, float]) -> str:
    buckets = {float(dict(labels)["le"]): value for (_, labels), value in page.items() if dict(labels).get("le")}
    return proof.fault_of({name: value for (name, labels), value in page.items() if not labels}, buckets)


def _up(frame: Held, source: str) -> bool | None:
    up = frame.samples().get(("collector_up", frozenset({("source", source)})))
    return None if up is None else bool(up)
