"""A ring under attack between two healthy ones, the exporter that scrapes all three, and what it must say.

The exporter is the product's own, in this process, with clocks that stand still. The oracle knows what was appended,
and formats it by itself.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Final

import numpy as np
import orjson

from exporter.app import Exporter
from exporter.http.negotiation import Format
from exporter.http.parameters import MetricsQuery, parse_aggregated_query
from exporter.rings import Ring, RingSet
from exporter.selfmetrics import SelfMetrics
from exporter.status import stats as reports
from fogmetrics.config import Config
from fogmetrics.settings.tables import ShmConfig
from shm.files import ring_path
from shm.ring.writer import RingWriter
from tests.exporter.scene import own_page
from tests.rings import INTERVAL_NS, SECOND_NS
from tests.siege.fuzz.appended import (
    CAPACITY,
    COLUMNS,
    EAST,
    FRAMES,
    VICTIM,
    WEST,
    columns_at,
    fill,
    lines,
    metrics_of,
    open_writer,
    row,
    stamp_ns,
    statistics,
)
from tests.siege.fuzz.mutations import HINT_FIELDS, Mutation, Whole, word
from tests.siege.harness import Violation, require

_EVERYTHING: Final = MetricsQuery(())
_OWN_NAMES: Final = ("exporter_ring_errors_total", "exporter_ring_fresh", "exporter_ring_skipped_frames_total")
_SAMPLE = re.compile(rb"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^\n]*\})? ([^ \n]+)\Z")
_ENDINGS: Final[dict[bytes, tuple[bytes, ...]]] = {b"gauge": (b"",), b"untyped": (b"",), b"counter": (b"", b"_total"),
                   b"histogram": (b"_bucket", b"_sum", b"_count")}  # fmt: skip
_NAMELESS = re.compile(r"(^|: )[A-Z]\w*(Error|Exception|Warning)\b")


class Besieged:
    """``scrape`` puts a mutation in the victim's place and raises Violation where the exporter does not bear it."""

    def __init__(self, namespace: str, *, hung_seconds: float = 0) -> None:
        """``hung_seconds``: how long a scrape may take before it hangs; 0: SIGALRM is somebody else's."""
        self.hung_seconds = hung_seconds
        self.namespace = namespace
        self.path = ring_path(namespace, VICTIM)
        self.alarmed = False
        self._stack = ExitStack()
        older: list[bytes] = []
        for source in (EAST, VICTIM, WEST):
            with open_writer(namespace, source) as writer:
                fill(writer, source, FRAMES - 1)
                older.append(ring_path(namespace, source).read_bytes())
                writer.add_series(metrics_of(source)[3], ("here",))
                fill(writer, source, 1)
                if source == VICTIM:
                    self.whole = Whole(self.path.read_bytes(), writer.header, _catalog_used(writer))
        rebuilt = self._rebuilt()
        self.older = older[1]  # of the victim, one frame and one series ago
        self.donors = [older[0], self.older, ring_path(namespace, WEST).read_bytes(), rebuilt]
        self.shown = {s: lines(VICTIM, s) for s in range(1, FRAMES + 1)}
        self.healthy = lines(EAST, FRAMES) | lines(WEST, FRAMES)
        self.values = np.zeros((FRAMES + 1, COLUMNS))
        for sequence in range(1, FRAMES + 1):
            self.values[sequence] = row(VICTIM, sequence, COLUMNS)
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._stack.callback(os.close, self._fd)
        config = Config(shm=ShmConfig(namespace=namespace))
        now_ns = stamp_ns(FRAMES) + SECOND_NS
        clocks = {"wall": lambda: now_ns, "monotonic": lambda: FRAMES * INTERVAL_NS + SECOND_NS}
        self.exporter = Exporter(config, **clocks)
        self._stack.callback(self.exporter.close)
        self.history = self.exporter._history  # what the worker's thread has; nothing runs in that here
        self._window = parse_aggregated_query([("window", "1h")], 3600 * SECOND_NS)
        self._own = {
            form: frozenset(filter(_is_sample, own_page(self.exporter.own, form).encode().split(b"\n")))
            for form in Format
        }
        self._aggregated: dict[object, frozenset[bytes]] = {}
        self.aggregated_healthy = frozenset(
            line for line in self._aggregate().split(b"\n") if b'"east' in line or b'"west' in line or b"st_own" in line
        )
        self.served = self.refused = self._scrapes = 0
        self.scrape(Mutation("none", "nothing", self.whole.data, single=True))
        require(self.served == 1, "the ring is not served before anybody touched it")

    def _rebuilt(self) -> bytes:
        """The victim as it is after two rebuilds: the same frames in the same shape, under another salt."""
        for capacity in (CAPACITY + 1, CAPACITY):
            RingWriter(self.namespace, VICTIM, interval_ns=INTERVAL_NS, capacity=capacity).close()
        found = self.path.read_bytes()
        self.path.write_bytes(self.whole.data)
        return found

    def close(self) -> None:
        self._stack.close()

    # ---- one mutation ----------------------------------------------------------------------------------------

    def scrape(self, mutation: Mutation, *, attached: bool = False, deep: bool = False) -> None:
        """``attached``: under readers that had it open before; ``deep``: with windows, /stats and /health."""
        sets = (self.exporter.rings, self.history)
        for rings in sets:
            rings._let_go(VICTIM)  # so that it is opened anew: most of what is proven, is proven then
        try:
            if attached:
                self._put(Mutation("older", "older", self.older))
                for rings in sets:
                    rings.refresh()
            skipped = self.exporter.rings.skipped_frames()[VICTIM]
            self._put(mutation)
            self._guarded(mutation, lambda: self._check(mutation, attached, skipped))
            if deep:
                self._guarded(mutation, lambda: self._check_deep(mutation, attached))
        except Violation as violation:
            how = f"{mutation.kind}, {mutation.name}{', under its readers' if attached else ''}"
            raise Violation(f"I9: {how}: {violation}") from violation
        finally:
            if len(mutation.data) != len(self.whole.data) or mutation.hole or mutation.sparse:
                os.ftruncate(self._fd, 0)
                os.posix_fallocate(self._fd, 0, len(self.whole.data))

    def _put(self, mutation: Mutation) -> None:
        if mutation.hole:
            start, size = mutation.hole
            os.ftruncate(self._fd, 0)
            os.ftruncate(self._fd, len(mutation.data))
            os.pwrite(self._fd, mutation.data[:start], 0)
            os.pwrite(self._fd, mutation.data[start + size :], start + size)
            return
        if len(mutation.data) < len(self.whole.data):
            os.ftruncate(self._fd, len(mutation.data))
        os.pwrite(self._fd, mutation.data, 0)
        if mutation.sparse:
            os.ftruncate(self._fd, mutation.sparse)

    def _guarded(self, mutation: Mutation, work: Callable[[], None]) -> None:
        """Whatever the exporter raises is a crash of a page, and what the alarm met a hang."""
        if self.hung_seconds:
            signal.setitimer(signal.ITIMER_REAL, self.hung_seconds)
        try:
            work()
        except Violation:
            raise
        except Exception as error:
            raise Violation(f"the exporter raised {type(error).__name__}: {error}") from error
        finally:
            if self.hung_seconds:
                signal.setitimer(signal.ITIMER_REAL, 0)
        require(not self.alarmed, f"a scrape had not ended after {self.hung_seconds} s")

    def on_alarm(self, *_: object) -> None:
        """The exporter may catch what is raised here, so that it is noted, too."""
        self.alarmed = True
        raise TimeoutError("a scrape does not end")

    # ---- /metrics --------------------------------------------------------------------------------------------

    def _check(self, mutation: Mutation, attached: bool, skipped: int) -> None:
        form = Format.OPENMETRICS if attached else Format.TEXT
        body = self._body(form)
        samples = [line for line in body.split(b"\n") if _is_sample(line)]
        found = set(samples)
        rings = self.exporter.rings
        error = rings.errors.get(VICTIM, "")
        self._check_healthy(found, rings)
        self._check_error(mutation, error, attached)
        foreign = found - self.healthy
        require(len(found) == len(samples), "a sample comes twice")
        if foreign:
            self.served += 1
        elif error:
            self.refused += 1
        if mutation.forged:
            check_valid(body, form)
            return
        ring = rings.rings.get(VICTIM)
        if foreign:
            require(ring is not None and 1 <= ring.sequence <= FRAMES, "samples are served of no frame")
            assert ring is not None
            _check_provenance(ring)
            strangers = foreign - self.shown[ring.sequence]
            require(not strangers, f"served as of frame {ring.sequence}, never appended: {sorted(strangers)[:3]}")
        if mutation.single and not error:
            newest = FRAMES
            if attached and word(mutation.data, HINT_FIELDS["head"]) == FRAMES - 1:
                newest = FRAMES - 1  # the hint stands where it stood: nothing new was announced to this reader
            lost = self.shown[newest] - foreign
            passed = rings.skipped_frames()[VICTIM] - skipped
            require(not lost or passed, f"{len(lost)} samples are missing, and nothing says so: {sorted(lost)[:1]}")

    def _body(self, form: Format) -> bytes:
        page = b"".join(self.exporter.metrics_parts(_EVERYTHING, form))
        found = page.split(b"\n")
        require(self._own[form] <= set(found), "the exporter's own metrics are not there")
        return b"\n".join(line for line in found if line not in self._own[form])

    def _check_healthy(self, found: set[bytes], rings: RingSet) -> None:
        missing = self.healthy - found
        require(not missing, f"{len(missing)} samples of healthy rings are missing: {sorted(missing)[:3]}")
        for source in (EAST, WEST):
            require(source not in rings.errors, f"healthy ring {source!r} has the error {rings.errors.get(source)!r}")

    def _check_error(self, mutation: Mutation, error: str, attached: bool) -> None:
        if error:
            require(f"ring {VICTIM!r}" in error, f"the error does not name the ring: {error!r}")
            require("MemoryError" not in error, f"memory ran out: {error!r}")
            require("TimeoutError" not in error, f"a scrape had not ended after {self.hung_seconds} s: {error!r}")
            require(mutation.forged or not _NAMELESS.search(error), f"the error is no sentence: {error!r}")
        if mutation.says and not (attached and mutation.kind not in ("cut short", "extended")):
            require(mutation.says in error, f"the error must say {mutation.says!r}, but is {error!r}")

    # ---- the other pages -------------------------------------------------------------------------------------

    def _aggregate(self) -> bytes:
        return b"".join(self.exporter.aggregated_parts(self._window, Format.TEXT))

    def _check_deep(self, mutation: Mutation, attached: bool) -> None:
        page = set(self._aggregate().split(b"\n"))
        missing = self.aggregated_healthy - page
        require(not missing, f"{len(missing)} statistics of healthy rings are missing: {sorted(missing)[:3]}")
        found = reports.stats(self.history, self.exporter.own.series)
        orjson.dumps(found)
        _, told = reports.health(self.exporter.rings)
        orjson.dumps(told)
        for source in (EAST, WEST):
            require(found["rings"][source]["frames"] == CAPACITY - 4, f"/stats counts wrongly in {source!r}")
            require(told["sources"][source]["status"] == "fresh", f"/health says {told['sources'][source]}")
        errors = self.exporter.rings.errors
        require((VICTIM in errors) == ("error" in told["sources"].get(VICTIM, {})), "/health does not tell the error")
        self._scrapes += 1
        if self._scrapes % 8 == 0:
            self._check_own(VICTIM in errors)
        ring = self.history.rings.get(VICTIM)
        if mutation.forged or ring is None:
            return
        frames = ring.window(None, None)
        sequences = frames.sequence.tolist()
        require(all(1 <= s <= FRAMES for s in sequences), f"a window has the sequences {sequences}")
        require(frames.timestamp_ns.tolist() == [stamp_ns(s) for s in sequences], "a window has wrong timestamps")
        for sequence, held in zip(sequences, frames.values, strict=True):
            columns = columns_at(sequence)
            require(held[:columns].tolist() == self.values[sequence, :columns].tolist(), f"frame {sequence} is wrong")
        self._check_statistics(page, ring, sequences)

    def _check_own(self, refused: bool) -> None:
        """Three milliseconds, so not each time."""
        own = own_page(SelfMetrics(self.exporter.rings, self.history.counts), Format.TEXT, *_OWN_NAMES)
        require('exporter_ring_fresh{source="west"} 1.0' in own, "exporter_ring_fresh is wrong for 'west'")
        if refused:
            require('exporter_ring_errors_total{source="middle"}' in own, "the error is not counted")

    def _check_statistics(self, page: set[bytes], ring: Ring, sequences: Sequence[int]) -> None:
        """Each statistic of the victim, computed anew in plain Python."""
        found = {line for line in page if (b'"middle"' in line or b"middle_own" in line) and not line.startswith(b"#")}
        skipped = b'exporter_window_skipped_frames{source="middle"}'  # counts what is not there to be looked up
        strangers = {line for line in found - self._statistics(sequences) if not line.startswith(skipped)}
        require(not strangers, f"statistics over frames {sequences} are wrong: {sorted(strangers)[:3]}")

    def _statistics(self, sequences: Sequence[int]) -> frozenset[bytes]:
        key = tuple(sequences)
        known = self._aggregated.get(key)
        if known is None:
            if len(self._aggregated) > 5000:
                self._aggregated.clear()
            known = self._aggregated[key] = frozenset(statistics(key))
        return known


def _is_sample(line: bytes) -> bool:
    return line != b"" and not line.startswith(b"#")


def _check_provenance(ring: Ring) -> None:
    require(ring.timestamp_ns == stamp_ns(ring.sequence), f"frame {ring.sequence} has the time {ring.timestamp_ns}")
    monotonic_ns = ring.sequence * INTERVAL_NS
    require(ring.monotonic_ns == monotonic_ns, f"frame {ring.sequence} has the monotonic time {ring.monotonic_ns}")


def check_valid(body: bytes, form: Format) -> None:
    """Every line parses; a family has one TYPE, and only samples that its type may have; no sample comes twice."""
    family, endings = b"", _ENDINGS[b"gauge"]
    seen: set[bytes] = set()
    families: set[bytes] = set()
    for line in body.split(b"\n")[:-1]:
        if line.startswith(b"# TYPE "):
            _, _, family, kind = line.split(b" ")
            endings = (b"_total",) if kind == b"counter" and form is Format.OPENMETRICS else _ENDINGS[kind]
            require(family and family not in families, f"the page has the family {family!r} twice, or without a name")
            families.add(family)
        elif not line.startswith(b"# "):
            sample = _SAMPLE.match(line)
            require(sample, f"the page has the line {line[:100]!r}")
            assert sample is not None
            float(sample[3])
            allowed = {family + ending for ending in endings}
            require(sample[1] in allowed, f"no server takes the page: {family!r} has the sample {sample[1]!r}")
            require(line.rpartition(b" ")[0] not in seen, f"the sample {line[:100]!r} comes twice")
            seen.add(line.rpartition(b" ")[0])


def _catalog_used(writer: RingWriter) -> int:
    from shm.ring.reader import RingReader

    with RingReader(writer.namespace, writer.source) as reader:
        return reader.catalog.used
