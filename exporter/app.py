"""The pages: what is asked, and what is answered.

/metrics and /health are made in the event loop: they take microseconds while nothing changed. /metrics/aggregated
and /stats may read a day of every ring and sort it: they are made in one thread of their own, with rings of its
own, so that a scrape of /metrics never waits behind one. They wait for each other in a queue of bounded length: when
it is full the answer is 503 with Retry-After, at once, so that a burst costs the burst and not the memory of all.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, NamedTuple, TypeVar

import orjson

from exporter.applications import Application, ApplicationSet, Shown
from exporter.exposition.conflicts import Conflict
from exporter.exposition.latest import MetricsPage
from exporter.http import messages
from exporter.http.coding import gzipped
from exporter.http.messages import Request, Response
from exporter.http.negotiation import Format, accepts_gzip, choose_format
from exporter.http.parameters import (
    AggregatedQuery,
    MetricsQuery,
    QueryError,
    parse_aggregated_query,
    parse_metrics_query,
    parse_query_string,
)
from exporter.rings import Ring, RingSet
from exporter.selfmetrics import SelfMetrics
from exporter.settings import ExporterTables, windows_ns
from exporter.status import stats as reports
from exporter.window.incremental.rolling import RollingWindows
from exporter.window.page import AggregatedPage, readable
from shm.errors import FogmetricsError
from shm.files import check_name
from shm.safe_repr import shown

log = logging.getLogger(__name__)

_EOF = b"# EOF\n"
_KEPT_PAGES = 16  # of different queries; the layout of one takes some 200 bytes a line
_KEPT_WINDOW_BYTES = 64 << 20  # of what long windows came to: 5 KiB a series and day
_RETRY_SECONDS = 1

_INDEX = b"""<!doctype html><title>fogmetrics</title><h1>fogmetrics</h1><ul>
<li><a href="/metrics">/metrics</a>: the latest sample of each series
<li><a href="/metrics/aggregated">/metrics/aggregated</a>: avg, min, max, sum, p50, p95, p99 over 5 minutes;
<a href="/metrics/aggregated?window=24h">?window=24h</a>
<li><a href="/stats">/stats</a>: what the rings hold
<li><a href="/health">/health</a>: whether the sources are fresh
</ul>
"""

_HTML: Final = "text/html; charset=utf-8"
_JSON: Final = "application/json"

K = TypeVar("K")
V = TypeVar("V")


class Busy(FogmetricsError):
    """As many requests as may wait for the worker do. HTTP status 503."""


class _Page(NamedTuple):
    """``name``, by which its requests are counted, and what makes it: at once, or in the worker."""

    name: str
    make: Callable[[Request], Response | Awaitable[Response]]


class _Recent(Generic[K, V]):
    """The values of the keys asked for last, one a key: made anew when what it was made from has changed."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._kept: OrderedDict[K, tuple[object, V]] = OrderedDict()

    def get(self, key: K, made_from: object, make: Callable[[], V]) -> V:
        kept = self._kept.get(key)
        if kept is None or kept[0] != made_from:
            kept = self._kept[key] = made_from, make()
            if len(self._kept) > self._size:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return kept[1]


class Exporter:
    """The pages over the rings of a configuration's namespace.

    ``wall`` and ``monotonic`` are the clocks, in nanoseconds. Raises ConfigurationError.
    """

    def __init__(
        self,
        config: ExporterTables,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._config = config.exporter
        self._metric_tables = tuple(config.metric)
        self._window_ns, self._max_window_ns = windows_ns(config)
        check_name(f"{config.where('shm')} namespace", config.shm.namespace)
        owner, owners = config.ring_owner(), config.table_owners()

        def rings() -> RingSet:
            return RingSet(
                config.shm.namespace,
                owner=owner,
                stale_intervals=config.exporter.stale_intervals,
                wall=wall,
                monotonic=monotonic,
            )

        self.rings, self._history = rings(), rings()
        self.applications = ApplicationSet(config.shm.namespace, owners)
        self._applications_told = ApplicationSet(config.shm.namespace, owners)  # for the worker's thread
        self._history_counts = self._history.counts()  # replaced by the worker, never changed
        self.own = SelfMetrics(self.rings, lambda: self._history_counts, self.applications)
        self._jobs = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="aggregate")
        self._pages: _Recent[MetricsQuery, MetricsPage] = _Recent(_KEPT_PAGES)
        self._bodies: _Recent[tuple[object, ...], list[bytes]] = _Recent(_KEPT_PAGES)
        self._answers: _Recent[tuple[object, ...], Response] = _Recent(_KEPT_PAGES)
        self._rolling = RollingWindows(_KEPT_WINDOW_BYTES)
        self._aggregated_pages: _Recent[AggregatedQuery, AggregatedPage] = _Recent(_KEPT_PAGES)
        self._routes: Mapping[str, _Page] = {
            "/": _Page("index", lambda request: Response(200, (_INDEX,), _HTML)),
            "/metrics": _Page("metrics", self._metrics),
            "/metrics/aggregated": _Page("aggregated", self._aggregated),
            "/stats": _Page("stats", self._stats),
            "/health": _Page("health", self._health),
        }

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)
        self.rings.close()
        self._history.close()
        self.applications.close()
        self._applications_told.close()

    async def let_go(self) -> None:
        """Let go of segments that were replaced or removed, also where no request comes that would meet them.

        As long as somebody has them open, their memory counts against /dev/shm.
        """
        self.rings.let_go()
        self.applications.let_go()

        def of_the_worker() -> None:
            self._history.let_go()
            self._applications_told.let_go()

        await asyncio.get_running_loop().run_in_executor(self._worker, of_the_worker)

    # ---- answers -------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Response | Awaitable[Response]:
        """400 for a bad request, 503 when the worker has its fill, 500 for a fault of ours. Never raises; counts each.

        What takes its time is made in the worker's thread; cancelled before its turn, it is not made.
        """
        begun = time.perf_counter()
        page = self._routes.get(request.path)
        if page is None or request.method not in ("GET", "HEAD"):
            name, response = "other", _refusal(page is not None)
        else:
            name = page.name
            try:
                found = page.make(request)
            except Exception as error:  # noqa: BLE001 - whatever it is, the client is told
                found = _failed(name, request, error)
            if not isinstance(found, Response):
                return self._later(name, request, found, begun)
            response = found
        self.own.observe(name, response.status, time.perf_counter() - begun)
        return response

    def refused(self, status: int) -> None:
        """Count what was answered so before it was a request."""
        self.own.observe("none", status, 0.0)

    async def _later(self, name: str, request: Request, awaited: Awaitable[Response], begun: float) -> Response:
        try:
            response = await awaited
        except Exception as error:  # noqa: BLE001 - as above
            response = _failed(name, request, error)
        self.own.observe(name, response.status, time.perf_counter() - begun)
        return response

    # ---- pages ---------------------------------------------------------------------------------------------

    def _metrics(self, request: Request) -> Response:
        accept, coding = request.header("accept"), request.header("accept-encoding")
        form = choose_format(accept)
        parts = self.metrics_parts(_metrics_query(request.query), form)
        # Two servers that scrape between two frames get one answer, which is compressed once.
        return self._answers.get((request.query, accept, coding), parts, lambda: self._text(coding, form, parts))

    def metrics_parts(self, query: MetricsQuery, form: Format) -> tuple[bytes, ...]:
        """The page /metrics, in parts. While nothing moved, its bytes are those of the last time."""
        rings, applications, own = self.rings.refresh(), self.applications.refresh(), self.own.refresh()
        stale = self.rings.stale(rings)
        wanted = query.names, query.sources, form is Format.OPENMETRICS
        moved = (
            self.rings.generation,
            self.rings.changes,
            stale,
            self.applications.generation,
            self.applications.changes,
            own.changes,
        )
        body = self._bodies.get(wanted, moved, lambda: self._render(rings, stale, applications, query, form))
        return *body, _EOF if form is Format.OPENMETRICS else b""

    def _render(
        self, rings: list[Ring], stale: tuple[bool, ...], applications: list[Application], query: MetricsQuery,
        form: Format,
    ) -> list[bytes]:  # fmt: skip
        shown: list[Shown] = [self.own, *rings, *applications]
        made_from = self.rings.key(), self.applications.generation, self.own.generation
        page = self._pages.get(query, made_from, lambda: MetricsPage(shown, query))
        self._note_conflicts(page.conflicts)
        return page.render(shown, (False, *stale, *(False for _ in applications)), form)

    async def _aggregated(self, request: Request) -> Response:
        parameters = parse_query_string(request.query)
        query = parse_aggregated_query(parameters, self._window_ns)
        if query.window_ns > self._max_window_ns:
            raise QueryError(
                f"window={shown(dict(parameters)['window'])} is longer than {self._config.max_window}, "
                "the longest that [exporter] max_window allows"
            )
        form = choose_format(request.header("accept"))
        parts = await self._in_worker(lambda: self.aggregated_parts(query, form))
        return self._text(request.header("accept-encoding"), form, parts)

    def aggregated_parts(self, query: AggregatedQuery, form: Format) -> tuple[bytes, ...]:
        """The page /metrics/aggregated, in parts. In the worker's thread only."""
        rings = self._history.refresh()
        # The window is no part of the layout.
        layout = dataclasses.replace(query, window_ns=0)
        page = self._aggregated_pages.get(layout, self._history.key(), lambda: AggregatedPage(rings, layout))
        now_ns = self._history.wall()
        windows = [
            readable(self._history, ring, query, now_ns) if place in page.places else None
            for place, ring in enumerate(rings)
        ]
        body = page.render(windows, form, self._rolling.of(self._history.key()), self._history)
        covered = page.coverage.render(windows, query.window_ns, form)
        return *body, covered, _EOF if form is Format.OPENMETRICS else b""

    async def _stats(self, request: Request) -> Response:
        self.rings.refresh()
        own = self.own.refresh().series
        found = await self._in_worker(
            lambda: reports.stats(self._history, own, self._applications_told, self._metric_tables)
        )
        return _json(found, 200)

    def _health(self, request: Request) -> Response:
        fresh, found = reports.health(self.rings, self.applications)
        return _json(found, 200 if fresh else 503)

    # ---- around them ---------------------------------------------------------------------------------------

    async def _in_worker(self, job: Callable[[], V]) -> V:
        """What ``job`` returns, made in the worker's thread. Raises Busy, and what ``job`` raises."""
        if self._jobs >= self._config.max_jobs:
            raise Busy(f"{self._config.max_jobs} requests wait already; try again in {_RETRY_SECONDS} s")

        def run() -> V:
            try:
                return job()
            finally:
                self._history_counts = self._history.counts()

        self._jobs += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._worker, run)
        finally:
            self._jobs -= 1

    def _text(self, coding: str, form: Format, parts: tuple[bytes, ...]) -> Response:
        headers = {"vary": "accept, accept-encoding"}
        if sum(map(len, parts)) >= self._config.gzip_min_bytes and accepts_gzip(coding):
            parts = (gzipped(parts),)
            headers["content-encoding"] = "gzip"
        return Response(200, parts, form.content_type, headers)

    def _note_conflicts(self, conflicts: list[Conflict]) -> None:
        if conflicts != self.own.conflicts:
            for one in conflicts:
                if one not in self.own.conflicts:
                    log.warning(
                        "series in conflict",
                        extra={
                            "ring": one.source,
                            "metric": one.metric,
                            "error": one.reason,
                            "series": one.series,
                        },
                    )
            self.own.conflicts = conflicts


@functools.lru_cache(_KEPT_PAGES)
def _metrics_query(raw: bytes) -> MetricsQuery:
    """Of a query that comes with every scrape the meaning is known. Raises QueryError."""
    return parse_metrics_query(parse_query_string(raw))


def _refusal(method_is_wrong: bool) -> Response:
    if method_is_wrong:
        return messages.text(405, "Method Not Allowed", {"allow": "GET, HEAD"})
    return messages.text(404, "Not Found")


def _failed(page: str, request: Request, error: Exception) -> Response:
    if isinstance(error, QueryError):
        return messages.text(400, str(error))
    if isinstance(error, Busy):
        return messages.text(503, str(error), {"retry-after": str(_RETRY_SECONDS)})
    query = request.query[:200].decode("latin-1")
    log.error("request failed", extra={"page": page, "query": query}, exc_info=error)
    return messages.text(500, "internal error; the exporter's log has it")


def _json(found: object, status: int) -> Response:
    return Response(status, (orjson.dumps(found, option=orjson.OPT_INDENT_2), b"\n"), _JSON)
