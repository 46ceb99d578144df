"""Scrape the exporter and judge each answer: it must be valid and show what the rings hold.

A page was made between two moments, before and after. What it may show is bounded by what the rings held at both: the
samples of a source are those of one frame, no older than the newest before, and not stale at the first moment. Where
they are left out, that frame was stale at the second.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families

from tests import http_client
from tests.siege.daemon.faults import SUPERVISORD, Fault
from tests.siege.daemon.rings import Held, History, Key, Rings, named
from tests.siege.harness import Violation, require

_OPENMETRICS = "application/openmetrics-text; version=1.0.0"
_TIMEOUT_SECONDS = 3.0
_OWN = ("exporter_", "process_")
_RESTART_NS = 30_000_000_000  # an exporter that is away longer after a fault hangs


@dataclass(frozen=True, slots=True)
class _Answer:
    """A page that was made after ``before_ns`` and before ``after_ns``; ``heads``: of the rings, before."""

    reply: httpx.Response
    before_ns: int
    after_ns: int
    heads: dict[str, int]


@dataclass(slots=True)
class Pages:
    """Asks the exporter at ``url`` for its pages. ``faults``: the log of the faults that were injected."""

    url: str
    rings: Rings
    faults: Sequence[Fault]
    counts: Counter[str] = field(default_factory=Counter)
    _client: httpx.Client = field(default_factory=lambda: http_client.client(timeout=_TIMEOUT_SECONDS))
    _begun: float = 0.0  # the exporter's start, in Unix seconds, as its last page had it

    def close(self) -> None:
        self._client.close()

    def metrics(self, openmetrics: bool = False) -> None:
        answer = self._get("/metrics", accept=_OPENMETRICS if openmetrics else "text/plain")
        if answer is None:
            return
        samples = _parsed(answer.reply, openmetrics)
        owners, pages = self.rings.owners(), dict[str, dict[Key, float]]()
        for key, value in samples.items():
            if not key[0].startswith(_OWN):
                require(key in owners, f"/metrics has {named(key)}, which no ring has")
                pages.setdefault(owners[key].source, {})[key] = value
        for source, ring in self.rings.by_source.items():
            page = pages.get(source, {})
            self._judge_freshness(ring, bool(page), answer, "/metrics")
            if page:
                _judge_samples(ring.newest(answer.heads.get(source, 0)), page, source)
            else:
                self.counts["sources left out as stale"] += 1
        self._begun = samples.get(("process_start_time_seconds", frozenset()), self._begun)
        self.counts["pages of /metrics"] += 1
        self.counts["samples on them"] += len(samples)

    def aggregated(self) -> None:
        """Each window covers the frames that it names, and its extremes are samples of these frames."""
        answer = self._get("/metrics/aggregated?window=1h", accept="text/plain")
        if answer is None:
            return
        samples = _parsed(answer.reply, openmetrics=False)
        covered: dict[str, list[Held]] = {}
        for source, ring in self.rings.by_source.items():
            window = {
                what: samples.get((f"exporter_window_{what}", frozenset({("source", source)})), 0.0)
                for what in ("frames", "skipped_frames", "first_timestamp_seconds", "last_timestamp_seconds")
            }
            first, last = window["first_timestamp_seconds"], window["last_timestamp_seconds"]
            frames = [frame for frame in ring.held.values() if first <= frame.timestamp_ns / 1e9 <= last]
            require(
                len(frames) - window["skipped_frames"] <= window["frames"] <= len(frames),
                f"/metrics/aggregated: the window of {source} is {window}, and the ring has {len(frames)} frames then",
            )
            covered[source] = frames
        owners = self.rings.owners()
        for (name, labels), value in samples.items():
            key = name, frozenset(pair for pair in labels if pair[0] != "stat")
            if dict(labels).get("stat") in ("min", "max") and key in owners:
                known = {frame.samples.get(key) for frame in covered[owners[key].source]}
                require(value in known, f"/metrics/aggregated has {named((name, labels))} as {value}; no frame has it")
                self.counts["extremes on them"] += 1
        self.counts["pages of /metrics/aggregated"] += 1

    def health(self) -> None:
        answer = self._get("/health", status=(200, 503))
        if answer is None:
            return
        found = answer.reply.json()["sources"]
        for source, ring in self.rings.by_source.items():
            if answer.heads.get(source):
                status = found.get(source, {}).get("status")
                require(status in ("fresh", "stale"), f"/health has {status!r} for {source}, whose ring is whole")
                self._judge_freshness(ring, status == "fresh", answer, "/health")
        fresh = any(one["status"] == "fresh" for one in found.values())
        require(answer.reply.status_code == (200 if fresh else 503), f"/health answered {answer.reply}: {found}")
        self.counts["pages of /health and /stats"] += 1

    def stats(self) -> None:
        answer = self._get("/stats")
        if answer is None:
            return
        found = answer.reply.json()
        require(not found["errors"] and not found["conflicts"], f"/stats has errors: {found['errors']}")
        for source, ring in self.rings.by_source.items():
            if answer.heads.get(source):
                one = found["rings"][source]
                possible = range(answer.heads[source], ring.last + 1)
                require(one["sequence"] in possible, f"/stats: sequence {one['sequence']} of {source}, not {possible}")
                held = {len(ring.window(newest)) for newest in possible}
                require(one["frames"] in held, f"/stats: {one['frames']} frames of {source}, not {held}")
                self._judge_freshness(ring, not one["stale"], answer, "/stats")
        self.counts["pages of /health and /stats"] += 1

    @staticmethod
    def _judge_freshness(ring: History, fresh: bool, answer: _Answer, page: str) -> None:
        frames = ring.newest(answer.heads.get(ring.source, 0))
        if fresh:
            age_ns = answer.before_ns - max((frame.monotonic_ns for frame in frames), default=0)
            require(
                age_ns <= ring.limit_ns,
                f"{page} has {ring.source} as fresh, whose newest frame was stale: {age_ns / 1e9:.3f} s old",
            )
        elif answer.heads.get(ring.source):
            age_ns = answer.after_ns - min(frame.monotonic_ns for frame in frames)
            require(
                age_ns > ring.limit_ns,
                f"{page} has {ring.source} as stale, whose frame was fresh: {age_ns / 1e9:.3f} s old",
            )

    def _get(self, path: str, status: tuple[int, ...] = (200,), **headers: str) -> _Answer | None:
        """The answer; None where there is none and a fault explains it."""
        heads = self.rings.catch_up()
        before_ns = time.monotonic_ns()
        try:
            reply = self._client.get(f"{self.url}{path}", headers=headers)
        except httpx.TransportError as error:
            require(
                self._explained(before_ns, time.monotonic_ns()),
                f"GET {path} got no answer ({type(error).__name__}: {error}), and no fault explains it",
            )
            self.counts["scrapes without an answer, each explained by a fault"] += 1
            return None
        after_ns = time.monotonic_ns()
        self.rings.catch_up()
        require(reply.status_code in status, f"{path} answered {reply.status_code}: {reply.text[:200]}")
        return _Answer(reply, before_ns, after_ns, heads)

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


def _judge_samples(frames: list[Held], page: dict[Key, float], source: str) -> None:
    if page in [frame.samples for frame in frames]:
        return
    newest = frames[-1].samples if frames else {}
    unlike = next(key for key in page.keys() | newest.keys() if page.get(key) != newest.get(key))
    raise Violation(
        f"/metrics does not have the newest frame of ring {source!r}: {named(unlike)} is {page.get(unlike)} there and "
        f"{newest.get(unlike)} in the ring"
    )


def _parsed(reply: httpx.Response, openmetrics: bool) -> dict[Key, float]:
    """The samples of a page. Raises Violation where prometheus_client can't parse it, or a sample is there twice."""
    try:
        families = list((openmetrics_families if openmetrics else text_string_to_metric_families)(reply.text))
    except ValueError as error:
        raise Violation(f"a page is no valid exposition: {error}") from error
    found: dict[Key, float] = {}
    for sample in (sample for family in families for sample in family.samples):
        key = sample.name, frozenset(sample.labels.items())
        require(key not in found, f"a page has {named(key)} twice")
        found[key] = sample.value
    require(found, "a page has no sample")
    return found
