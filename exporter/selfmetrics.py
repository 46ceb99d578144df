"""The exporter's own metrics, at the end of /metrics: what it serves, how the rings are, and its process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Set
from dataclasses import dataclass, field
from typing import Final

from exporter import process
from exporter.applications import ApplicationSet
from exporter.exposition.conflicts import Conflict
from exporter.exposition.format import header, label_set
from exporter.http.negotiation import Format
from exporter.rings import Counts, RingSet
from exporter.window import coverage
from shm import VERSION

# Reading /proc and rendering takes 0.15 ms, ten times what a page of rings takes; nobody scrapes faster than this.
REFRESH_NS = 1_000_000_000

# What a family of each type may put after its name; no ring may have these names. ``_created`` is not written, but
# OpenMetrics keeps it free.
_SUFFIXES: Final[dict[str, tuple[str, ...]]] = {
    "gauge": ("",),
    "counter": ("", "_total", "_created"),
    "summary": ("", "_count", "_sum", "_created"),
    "info": ("", "_info"),
}


@dataclass(slots=True)
class _Family:
    """One metric with its samples: (suffix of the name, label values, value)."""

    name: str
    type: str
    help: str
    labels: tuple[str, ...] = ()
    samples: list[tuple[str, tuple[str, ...], float]] = field(default_factory=list)

    def add(self, value: float, *labels: str, suffix: str = "") -> None:
        self.samples.append((suffix or ("_total" if self.type == "counter" else ""), labels, value))

    def names(self) -> Iterator[str]:
        return (self.name + suffix for suffix in _SUFFIXES[self.type])

    def text(self, form: Format, names: Set[str]) -> str:
        """Its lines, empty without samples. ``names``: only the samples of these names, or all for the family's."""
        samples = self.samples
        if names and self.name not in names:
            samples = [one for one in samples if self.name + one[0] in names]
        if not samples:
            return ""
        name, kind = self.name, self.type
        if kind == "info" and form is Format.TEXT:
            name, kind = f"{name}_info", "gauge"
        lines = [header(name, kind, self.help, "", form)]
        lines += [
            f"{self.name}{suffix}{label_set(zip(self.labels, values, strict=True))} {float(value)!r}\n"
            for suffix, values, value in samples
        ]
        return "".join(lines)


class SelfMetrics:
    """Counts requests, and tells at each scrape how the rings are. Not for two threads at once.

    ``names``: every name that its samples or families may have.
    """

    def __init__(
        self, rings: RingSet, elsewhere: Callable[[], Counts], applications: ApplicationSet | None = None
    ) -> None:
        """``elsewhere``: what another thread's set of the same rings counted, as a copy that nobody changes."""
        self.conflicts: list[Conflict] = []
        self._rings = rings
        self._applications = applications
        self._elsewhere = elsewhere
        self._requests: Counter[tuple[str, str]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._rendered: dict[Format, tuple[int, bytes]] = {}
        self.names = frozenset(name for one in self._families() for name in one.names()) | coverage.NAMES

    def observe(self, page: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests[page, str(status)] += 1
        self._seconds[page] += seconds  # type: ignore[assignment]  # Counter counts floats as well

    def render(self, form: Format, names: Iterable[str] = ()) -> bytes:
        """The own metrics as text, without OpenMetrics' EOF; at most a second old. ``names``: only these samples."""
        chosen = tuple(names)
        if chosen:
            return self._generate(form, chosen)
        now_ns = self._rings.monotonic()
        kept = self._rendered.get(form)
        if kept is None or now_ns - kept[0] >= REFRESH_NS:
            self._rendered[form] = kept = now_ns, self._generate(form, ())
        return kept[1]

    def _generate(self, form: Format, names: tuple[str, ...]) -> bytes:
        wanted = frozenset(names)
        return "".join([family.text(form, wanted) for family in self._families()]).encode()

    def _families(self) -> Iterator[_Family]:
        yield from self._of_rings()
        yield from self._of_applications()
        yield from self._of_requests()
        build = _Family("exporter_build", "info", "The release that runs.", ("version",))
        build.add(1, VERSION, suffix="_info")
        yield build
        values = process.read()
        for metric in process.METRICS:
            family = _Family(metric.name, metric.type, metric.help)
            if metric.name in values:
                family.add(values[metric.name])
            yield family

    def _of_rings(self) -> Iterable[_Family]:
        of_source = ("source",)
        age = _Family("exporter_ring_age_seconds", "gauge", "Age of the newest frame.", of_source)
        fresh = _Family("exporter_ring_fresh", "gauge", "1 while the source is not stale, else 0.", of_source)
        alive = _Family("exporter_ring_writer_alive", "gauge", "1 while the ring has a writer.", of_source)
        skipped = _Family(
            "exporter_ring_skipped_frames",
            "counter",
            "Slots that were torn or lapped when they were read.",
            of_source,
        )
        errors = _Family(
            "exporter_ring_errors", "counter", "Times that a ring, or a part of it, could not be read.", of_source
        )
        rings = self._rings
        here, elsewhere = rings.counts(), self._elsewhere()
        counts = here.skipped_frames + elsewhere.skipped_frames
        for source, ring in rings.rings.items():
            if ring.sequence:
                age.add(ring.age_seconds(rings.monotonic(), rings.wall()), source)
            fresh.add(not rings.is_stale(ring), source)
            alive.add(ring.writer_alive(), source)
            skipped.add(counts[source], source)
        for source in rings.errors:
            if source not in rings.rings:  # unreadable as a whole
                fresh.add(0, source)
        for source, count in (here.errors + elsewhere.errors).items():
            errors.add(count, source)
        dropped = _Family(
            "exporter_series_in_conflict",
            "gauge",
            "Series left out because another ring has the series or the name.",
            ("source", "metric", "reason"),
        )
        for conflict in self.conflicts:
            dropped.add(conflict.series, conflict.source, conflict.metric, conflict.reason)
        return age, fresh, alive, skipped, errors, dropped

    def _of_applications(self) -> Iterable[_Family]:
        of_application = ("application",)
        processes = _Family("exporter_application_processes", "gauge", "Processes that live.", of_application)
        size = _Family(
            "exporter_application_bytes", "gauge", "Shared memory that the tables take, in bytes.", of_application
        )
        errors = _Family(
            "exporter_application_errors", "counter", "Times that a table, or a part of it, could not be read.",
            of_application,
        )  # fmt: skip
        for name, one in self._applications.applications.items() if self._applications else ():
            processes.add(one.reader.processes, name)
            size.add(one.reader.bytes, name)
            errors.add(one.errors, name)
        return processes, size, errors

    def _of_requests(self) -> Iterable[_Family]:
        requests = _Family("exporter_requests", "counter", "Requests answered.", ("page", "status"))
        for (page, status), count in self._requests.items():
            requests.add(count, page, status)
        seconds = _Family("exporter_request_duration_seconds", "summary", "Time to make a page, in seconds.", ("page",))
        for page, total in self._seconds.items():
            count = sum(n for (name, _), n in self._requests.items() if name == page)
            seconds.add(count, page, suffix="_count")
            seconds.add(total, page, suffix="_sum")
        return requests, seconds
