"""The HTTP side: four pages on Starlette.

/metrics and /health are made in the event loop: they take microseconds while nothing changed. /metrics/aggregated
and /stats may read a day of every ring and sort it: they are made in one thread of their own, with rings of its
own, so that a scrape of /metrics never waits behind one. They wait for each other in a queue of bounded length: when
it is full the answer is 503 with Retry-After, at once, so that a burst costs the burst and not the memory of all.
"""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exporter import stats as reports
from exporter.aggregated import AggregatedPage, readable
from exporter.exposition import MetricsPage
from exporter.families import Conflict
from exporter.negotiation import Format, accepts_gzip, choose_format
from exporter.query import (
    AggregatedQuery,
    MetricsQuery,
    QueryError,
    parse_aggregated_query,
    parse_metrics_query,
    parse_query_string,
    shown,
)
from exporter.rolling import RollingWindows
from exporter.selfmetrics import SelfMetrics
from exporter.snapshot import RingSet
from shm.config import Config, windows_ns
from shm.discovery import user_number
from shm.errors import FogmetricsError
from shm.segment import check_name

log = logging.getLogger(__name__)

_EOF = b"# EOF\n"
_KEPT_PAGES = 16  # of different queries; the layout of one takes some 200 bytes a line
_KEPT_WINDOW_BYTES = 64 << 20  # of what long windows came to: 5 KiB a series and day
_RETRY_SECONDS = 1
_GZIP_LEVEL = 1  # a page of metrics shrinks to an eighth at level 1, to a tenth at level 6 for five times the CPU

_INDEX = b"""<!doctype html><title>fogmetrics</title><h1>fogmetrics</h1><ul>
<li><a href="/metrics">/metrics</a>: the latest sample of each series
<li><a href="/metrics/aggregated">/metrics/aggregated</a>: avg, min, max, sum, p50, p95, p99 over 5 minutes;
<a href="/metrics/aggregated?window=24h">?window=24h</a>
<li><a href="/stats">/stats</a>: what the rings hold
<li><a href="/health">/health</a>: whether the sources are fresh
</ul>
"""

Handler = Callable[[Request], Awaitable[Response]]
K = TypeVar("K")
V = TypeVar("V")


class Busy(FogmetricsError):
    """As many requests as may wait for the worker do. HTTP status 503."""


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
    """Serves the rings of a configuration's namespace. ``app`` is the ASGI application.

    ``wall`` and ``monotonic`` are the clocks, in nanoseconds. Raises ConfigurationError.
    """

    def __init__(
        self,
        config: Config,
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._config = config.exporter
        self._window_ns, self._max_window_ns = windows_ns(config)
        check_name(f"{config.where('shm')} namespace", config.shm.namespace)
        owner = user_number(config.shm.owner, config.where("shm"))

        def rings() -> RingSet:
            return RingSet(
                config.shm.namespace,
                owner=owner,
                stale_intervals=config.exporter.stale_intervals,
                wall=wall,
                monotonic=monotonic,
            )

        self.rings, self._history = rings(), rings()
        self._history_counts = self._history.counts()  # replaced by the worker, never changed
        self.own = SelfMetrics(self.rings, lambda: self._history_counts)
        self._jobs = 0
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="aggregate")
        self._pages: _Recent[MetricsQuery, MetricsPage] = _Recent(_KEPT_PAGES)
        self._bodies: _Recent[tuple[MetricsQuery, Format], bytes] = _Recent(_KEPT_PAGES)
        self._rolling = RollingWindows(_KEPT_WINDOW_BYTES)
        self._aggregated_pages: _Recent[AggregatedQuery, AggregatedPage] = _Recent(_KEPT_PAGES)
        self.app = Starlette(
            routes=[
                Route("/", self._index),
                Route("/metrics", self._counted("metrics", self._metrics)),
                Route("/metrics/aggregated", self._counted("aggregated", self._aggregated)),
                Route("/stats", self._counted("stats", self._stats)),
                Route("/health", self._counted("health", self._health)),
            ]
        )
        # /metrics/ would be sent to /metrics at whatever host the request claims.
        self.app.router.redirect_slashes = False

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)
        self.rings.close()
        self._history.close()

    async def let_go(self) -> None:
        """Let go of segments that were replaced or removed, also where no request comes that would meet them.

        As long as somebody has them open, their memory counts against /dev/shm.
        """
        self.rings.let_go()
        await asyncio.get_running_loop().run_in_executor(self._worker, self._history.let_go)

    # ---- pages ---------------------------------------------------------------------------------------------

    async def _index(self, request: Request) -> Response:
        return Response(_INDEX, media_type="text/html")

    async def _metrics(self, request: Request) -> Response:
        query = parse_metrics_query(_parameters(request))
        form = choose_format(_all(request, "accept"))
        return self._text(request, form, self.metrics_text(query, form))

    def metrics_text(self, query: MetricsQuery, form: Format) -> bytes:
        """The page /metrics. While no ring moved, its own bytes come from the last time."""
        rings = self.rings.refresh()
        stale = tuple(self.rings.is_stale(ring) for ring in rings)
        key = self.rings.key()
        page = self._pages.get(query, key, lambda: MetricsPage(rings, query, self.own.names))
        self._note_conflicts(page.conflicts)
        moved = key, stale, tuple(ring.sequence for ring in rings)
        body = self._bodies.get((query, form), moved, lambda: page.render(rings, stale, form))
        own = b"" if query.sources else self.own.render(form, query.names)
        return body + own + (_EOF if form is Format.OPENMETRICS else b"")

    async def _aggregated(self, request: Request) -> Response:
        parameters = _parameters(request)
        query = parse_aggregated_query(parameters, self._window_ns)
        if query.window_ns > self._max_window_ns:
            raise QueryError(
                f"window={shown(dict(parameters)['window'])} is longer than {self._config.max_window}, "
                "the longest that [exporter] max_window allows"
            )
        form = choose_format(_all(request, "accept"))
        body = await self._in_worker(lambda: self.aggregated_text(query, form))
        return self._text(request, form, body)

    def aggregated_text(self, query: AggregatedQuery, form: Format) -> bytes:
        """The page /metrics/aggregated. In the worker's thread only."""
        rings = self._history.refresh()
        # The window is no part of the layout.
        layout = dataclasses.replace(query, window_ns=0)
        page = self._aggregated_pages.get(layout, self._history.key(), lambda: AggregatedPage(rings, layout))
        now_ns = self._history.wall()
        windows = [readable(self._history, ring, query, now_ns) for ring in rings]
        body = page.render(windows, form, self._rolling.of(self._history.key()), self._history)
        body += page.coverage.render(windows, query.window_ns, form)
        return body + (_EOF if form is Format.OPENMETRICS else b"")

    async def _stats(self, request: Request) -> Response:
        found = await self._in_worker(lambda: reports.stats(self._history, self.own.names))
        return _json(found, 200)

    async def _health(self, request: Request) -> Response:
        fresh, found = reports.health(self.rings)
        return _json(found, 200 if fresh else 503)

    # ---- around them ---------------------------------------------------------------------------------------

    def _counted(self, page: str, handler: Handler) -> Handler:
        """Answers 400 for a bad request, 503 when the worker has its fill, 500 for a fault of ours; counts each."""

        async def counted(request: Request) -> Response:
            begun = time.perf_counter()
            try:
                response = await handler(request)
            except QueryError as error:
                response = Response(f"{error}\n", 400, media_type="text/plain")
            except Busy as error:
                headers = {"retry-after": str(_RETRY_SECONDS)}
                response = Response(f"{error}\n", 503, headers=headers, media_type="text/plain")
            except Exception:
                log.exception("request failed", extra={"page": page, "query": request.url.query[:200]})
                response = Response("internal error; the exporter's log has it\n", 500, media_type="text/plain")
            self.own.observe(page, response.status_code, time.perf_counter() - begun)
            return response

        return counted

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

    def _text(self, request: Request, form: Format, body: bytes) -> Response:
        headers = {"content-type": form.content_type, "vary": "accept, accept-encoding"}
        if len(body) >= self._config.gzip_min_bytes and accepts_gzip(_all(request, "accept-encoding")):
            body = gzip.compress(body, _GZIP_LEVEL, mtime=0)
            headers["content-encoding"] = "gzip"
        return Response(body, headers=headers)

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


def _parameters(request: Request) -> list[tuple[str, str]]:
    raw: bytes = request.scope["query_string"]
    return parse_query_string(raw)


def _all(request: Request, header: str) -> str:
    """The header as one list: a client may send it in several lines (RFC 9110, section 5.3)."""
    return ",".join(request.headers.getlist(header))


def _json(found: object, status: int) -> Response:
    return Response(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n", status, media_type="application/json")
