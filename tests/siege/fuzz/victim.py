"""A ring that is damaged between two healthy ones, and an oracle for the exporter that scrapes all three.

The exporter is the product's own, in this process, with clocks that stand still. The oracle knows what was appended
and formats it by itself.
"""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from typing import Final

import numpy as np
import orjson

from exporter.app import Exporter
from exporter.http.negotiation import Format
from exporter.http.parameters import MetricsQuery, parse_aggregated_query
from exporter.status import stats as reports
from fogmetrics.config import Config
from fogmetrics.settings.tables import ShmConfig
from shm.files import ring_path
from shm.ring.reader import RingReader
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
)
from tests.siege.fuzz.mutations import HINT_FIELDS, Mutation, Whole, word
from tests.siege.harness import Violation, require

_EVERYTHING: Final = MetricsQuery(())
_SAMPLE = re.compile(rb"([a-zA-Z_:][a-zA-Z0-9_:]*)(\{[^\n]*\})? ([^ \n]+)\Z")
_ENDINGS: Final[dict[bytes, tuple[bytes, ...]]] = {b"gauge": (b"",), b"untyped": (b"",), b"counter": (b"", b"_total"),
                   b"histogram": (b"_bucket", b"_sum", b"_count")}  # fmt: skip
_NAMELESS = re.compile(r"(^|: )[A-Z]\w*(Error|Exception|Warning)\b")


class Victim:
    """``scrape`` puts a mutation in the victim's place, and raises Violation unless the exporter bears it."""

    def __init__(self, namespace: str) -> None:
        self.path = ring_path(namespace, VICTIM)
        self._stack = ExitStack()
        older: list[bytes] = []
        for source in (EAST, VICTIM, WEST):
            with open_writer(namespace, source) as writer:
                fill(writer, source, FRAMES - 1)
                older.append(ring_path(namespace, source).read_bytes())
                writer.add_series(metrics_of(source)[3], ("here",))
                fill(writer, source, 1)
        with RingReader(namespace, VICTIM) as reader:
            self.whole = Whole(self.path.read_bytes(), reader.header, reader.catalog.used)
        # After two rebuilds: the same frames in the same shape, under another salt.
        for capacity in (CAPACITY + 1, CAPACITY):
            open_writer(namespace, VICTIM, capacity).close()
        rebuilt = self.path.read_bytes()
        self.path.write_bytes(self.whole.data)
        self.older = older[1]  # of the victim, one frame and one series ago
        self.donors = [older[0], self.older, ring_path(namespace, WEST).read_bytes(), rebuilt]
        self._shown = {s: lines(VICTIM, s) for s in range(1, FRAMES + 1)}
        self._healthy = lines(EAST, FRAMES) | lines(WEST, FRAMES)
        self._values = np.array([row(VICTIM, sequence, COLUMNS) for sequence in range(FRAMES + 1)])
        self._fd = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._stack.callback(os.close, self._fd)
        now_ns, monotonic_ns = stamp_ns(FRAMES) + SECOND_NS, FRAMES * INTERVAL_NS + SECOND_NS
        self._exporter = Exporter(
            Config(shm=ShmConfig(namespace=namespace)), wall=lambda: now_ns, monotonic=lambda: monotonic_ns
        )
        self._stack.callback(self._exporter.close)
        self._history = self._exporter._history  # the worker thread's rings; that thread is idle here
        self._window = parse_aggregated_query([("window", "1h")], 3600 * SECOND_NS)
        self._own = {
            form: frozenset(filter(_is_sample, own_page(self._exporter.own, form).encode().split(b"\n")))
            for form in Format
        }
        self._aggregated_healthy = frozenset(
            line for line in self._aggregated() if b'"east' in line or b'"west' in line or b"st_own" in line
        )
        self.served = self.refused = 0
        self.scrape(Mutation("none", "nothing", self.whole.data, single=True))
        require(self.served == 1, "the ring is not served before anybody touched it")

    def close(self) -> None:
        self._stack.close()

    # ---- one mutation ----------------------------------------------------------------------------------------

    def scrape(self, mutation: Mutation, *, attached: bool = False, deep: bool = False) -> None:
        """``attached``: under readers that had the ring open before; ``deep``: with windows, /stats and /health."""
        sets = (self._exporter.rings, self._history)
        for rings in sets:
            rings._close_ring(VICTIM)  # so that it is opened anew: most of what is proven, is proven then
        try:
            if attached:
                self._put(Mutation("older", "older", self.older))
                for rings in sets:
                    rings.refresh()
            skipped = self._exporter.rings.counts().skipped_frames[VICTIM]
            self._put(mutation)
            self._check(mutation, attached, skipped)
            if deep:
                self._check_deep(mutation)
        except Exception as error:
            how = f"{mutation.kind}, {mutation.name}{', under its readers' if attached else ''}"
            what = error if isinstance(error, Violation) else f"the exporter raised {type(error).__name__}: {error}"
            raise Violation(f"I9: {how}: {what}") from error
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

    # ---- /metrics --------------------------------------------------------------------------------------------

    def _check(self, mutation: Mutation, attached: bool, skipped: int) -> None:
        form = Format.OPENMETRICS if attached else Format.TEXT
        page = b"".join(self._exporter.metrics_parts(_EVERYTHING, form)).split(b"\n")
        own = self._own[form]
        require(own <= set(page), "the exporter's own metrics are not there")
        page = [line for line in page if line not in own]
        samples = [line for line in page if _is_sample(line)]
        found = set(samples)
        require(len(found) == len(samples), "a sample comes twice")
        rings = self._exporter.rings
        missing = self._healthy - found
        require(not missing, f"{len(missing)} samples of healthy rings are missing: {sorted(missing)[:3]}")
        require(rings.errors.keys() <= {VICTIM}, f"healthy rings have errors: {rings.errors}")
        error = rings.errors.get(VICTIM, "")
        _check_error(mutation, error, attached)
        foreign = found - self._healthy
        self.served += bool(foreign)
        self.refused += bool(error and not foreign)
        if mutation.forged:
            check_valid(page, form)
            return
        if foreign:
            ring = rings.rings[VICTIM]
            require(1 <= ring.sequence <= FRAMES, f"samples are served of frame {ring.sequence}")
            stamps, due = (ring.timestamp_ns, ring.monotonic_ns), (stamp_ns(ring.sequence), ring.sequence * INTERVAL_NS)
            require(stamps == due, f"frame {ring.sequence} has the times {stamps}, not {due}")
            strangers = foreign - self._shown[ring.sequence]
            require(not strangers, f"served as of frame {ring.sequence}, never appended: {sorted(strangers)[:3]}")
        if mutation.single and not error:
            newest = FRAMES
            if attached and word(mutation.data, HINT_FIELDS["head"]) == FRAMES - 1:
                newest = FRAMES - 1  # the hint is as it was: no new frame was announced to this reader
            lost = self._shown[newest] - foreign
            passed = rings.counts().skipped_frames[VICTIM] - skipped
            require(not lost or passed, f"{len(lost)} samples are missing, and nothing says so: {sorted(lost)[:1]}")

    # ---- the other pages -------------------------------------------------------------------------------------

    def _aggregated(self) -> set[bytes]:
        return set(b"".join(self._exporter.aggregated_parts(self._window, Format.TEXT)).split(b"\n"))

    def _check_deep(self, mutation: Mutation) -> None:
        missing = self._aggregated_healthy - self._aggregated()
        require(not missing, f"{len(missing)} statistics of healthy rings are missing: {sorted(missing)[:3]}")
        found = reports.stats(self._history, self._exporter.own.series)
        _, health = reports.health(self._exporter.rings)
        for report in (found, health):
            orjson.dumps(report)
        for source in (EAST, WEST):
            require(found["rings"][source]["frames"] == CAPACITY - 4, f"/stats counts wrongly in {source!r}")
            require(health["sources"][source]["status"] == "fresh", f"/health has {health['sources'][source]}")
        refused = VICTIM in self._exporter.rings.errors
        require(refused == ("error" in health["sources"].get(VICTIM, {})), "/health lacks the error")
        ring = self._history.rings.get(VICTIM)
        if mutation.forged or ring is None:
            return
        frames = ring.reader.frames(None, None)
        sequences = frames.sequence.tolist()
        require(all(1 <= s <= FRAMES for s in sequences), f"a window has the sequences {sequences}")
        require(frames.timestamp_ns.tolist() == [stamp_ns(s) for s in sequences], "a window has wrong timestamps")
        for sequence, held in zip(sequences, frames.values, strict=True):
            columns = columns_at(sequence)
            require(held[:columns].tolist() == self._values[sequence, :columns].tolist(), f"frame {sequence} is wrong")


def _is_sample(line: bytes) -> bool:
    return line != b"" and not line.startswith(b"#")


def _check_error(mutation: Mutation, error: str, attached: bool) -> None:
    if error:
        require(f"ring {VICTIM!r}" in error, f"the error does not name the ring: {error!r}")
        require("MemoryError" not in error, f"memory ran out: {error!r}")
        require(mutation.forged or not _NAMELESS.search(error), f"the error is no sentence: {error!r}")
    if mutation.says and not (attached and mutation.kind not in ("cut short", "extended")):
        require(mutation.says in error, f"the error must say {mutation.says!r}, but is {error!r}")


def check_valid(page: list[bytes], form: Format) -> None:
    """Every line parses; a family has one TYPE, and only samples that its type may have."""
    family, endings = b"", _ENDINGS[b"gauge"]
    families: set[bytes] = set()
    for line in page:
        if line.startswith(b"# TYPE "):
            _, _, family, kind = line.split(b" ")
            endings = (b"_total",) if kind == b"counter" and form is Format.OPENMETRICS else _ENDINGS[kind]
            require(family and family not in families, f"the page has the family {family!r} twice, or without a name")
            families.add(family)
        elif _is_sample(line):
            sample = _SAMPLE.match(line)
            require(sample, f"the page has the line {line[:100]!r}")
            assert sample is not None
            float(sample[3])
            allowed = {family + ending for ending in endings}
            require(sample[1] in allowed, f"no server takes the page: {family!r} has the sample {sample[1]!r}")
