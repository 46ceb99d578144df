"""The ASGI application: routes of the exporter's pages, and the worker thread for slow ones.

/metrics and /health are made in the event loop, in microseconds. /metrics/aggregated and /stats may read and sort a day
of every ring: one worker thread makes them, with its own RingSet, so that a scrape of /metrics never waits for them.
At most ``max_jobs`` of them are queued; further requests are answered 503 with Retry-After, which bounds the memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import orjson
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from exporter.aggregator import MetricAggregator
from exporter.applications import ApplicationSet, Shown
from exporter.cache import Cache
from exporter.exposition.conflicts import Conflict, Precedence
from exporter.exposition.latest import MetricsPage, present_levels
from exporter.exposition.names import Escaping
from exporter.http.hosts import HostCheck
from exporter.http.negotiation import TIMEOUT_HEADER, Format, Negotiated, accepts_gzip, negotiate
from exporter.http.parameters import (
    AggregatedQuery,
    MetricsQuery,
    QueryError,
    parse_aggregated_query,
    parse_metrics_query,
    parse_query_string,
)
from exporter.rings import RingSet
from exporter.scrapers import Scrapers
from exporter.selfmetrics import SelfMetrics
from exporter.settings import ExporterTables, windows_ns
from exporter.status import programs
from exporter.status import stats as reports
from fogmetrics.durations import written
from shm.errors import ConfigurationError, FogmetricsError
from shm.files import check_name
from shm.safe_repr import said, shown

log = logging.getLogger(__name__)

_RETRY_SECONDS: Final = 1
_CLOSE_SECONDS = 15.0  # how often to close replaced segments, at the cost of one stat per ring
_GZIP = 16 + zlib.MAX_WBITS  # wbits of a gzip member

_INDEX = b"""<!doctype html><title>fogmetrics</title><h1>fogmetrics</h1><ul>
<li><a href="/metrics">/metrics</a>: the latest sample of each series
<li><a href="/metrics/aggregated">/metrics/aggregated</a>: avg, min, max, sum, p50, p95, p99 over some minutes;
<a href="/metrics/aggregated?window=24h">?window=24h</a>
<li><a href="/stats">/stats</a>: what the rings hold
<li><a href="/health">/health</a>: whether the sources are fresh
</ul>
"""

T = TypeVar("T")
Page = Callable[[Request], Awaitable[Response]]


class Busy(FogmetricsError):
    """The worker's queue is full. HTTP status 503."""


class Exporter:
    """Pages of the rings in a configuration's namespace; ``app`` is the ASGI application that serves them.

    ``on``: sources that should have a ring; /health names those that have none. ``off``: sources that are off. Their
    rings, if any are left, are history: in /stats and in windows that reach back to them, not among the latest samples,
    nor in /health. ``reload``: what POST /-/reload calls; it returns a line for each change.

    ``wall`` and ``monotonic`` are the clocks, in nanoseconds. Raises ConfigurationError.
    """

    def __init__(
        self,
        config: ExporterTables,
        on: Collection[str] | None = None,
        off: Collection[str] = (),
        wall: Callable[[], int] = time.time_ns,
        monotonic: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._use(config, on)
        self.reload: Callable[[], Awaitable[list[str]]] | None = None
        check_name(f"{config.where('shm')} namespace", config.shm.namespace)
        owner, owners = config.ring_owner(), config.table_owners()

        def rings(latest_only: bool) -> RingSet:
            return RingSet(
                config.shm.namespace,
                off=off,
                latest_only=latest_only,
                owner=owner,
                stale_intervals=config.exporter.stale_intervals,
                wall=wall,
                monotonic=monotonic,
            )

        self.rings, self._history = rings(True), rings(False)
        label = config.application_label()
        self.applications = ApplicationSet(config.shm.namespace, owners, label)
        self._worker_applications = ApplicationSet(config.shm.namespace, owners, label)  # for the worker thread
        self._history_counts = self._history.counts()  # replaced by the worker, never changed
        self.own = SelfMetrics(self.rings, lambda: self._history_counts, self.applications)
        self._jobs = 0
        self._turn = asyncio.Lock()  # for the worker; a job that waits here can still be cancelled
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="aggregate")
        self._kept = Cache(config.exporter.cache_bytes)
        self._precedence = Precedence()
        self._scrapers = Scrapers(monotonic)
        self._misfits: Collection[object] = ()
        self._aggregator = MetricAggregator(self._history, kept=self._kept)  # for the worker thread
        self.app = Starlette(
            routes=[
                self._route("/", "index", self._index),
                self._route("/metrics", "metrics", self._metrics),
                self._route("/metrics/aggregated", "aggregated", self._aggregated),
                self._route("/stats", "stats", self._stats),
                self._route("/health", "health", self._health),
                self._route("/-/healthy", "healthy", self._alive),
                self._route("/-/ready", "ready", self._alive),
                self._route("/-/reload", "reload", self._reload, "POST", "PUT"),
            ],
            exception_handlers={HTTPException: self._no_page},
            middleware=[Middleware(HostCheck, names=lambda: self._config.allowed_hosts, refused=self.refused)],
            lifespan=self._lifespan,
        )
        self.app.router.redirect_slashes = False

    def _use(self, config: ExporterTables, on: Collection[str] | None) -> None:
        self._config = config.exporter
        self._on = on
        self._metric_tables = tuple(config.metric)
        self._window_ns, self._max_window_ns = windows_ns(config)

    async def take_over(self, config: ExporterTables, on: Collection[str], off: Collection[str]) -> None:
        """Apply another configuration of the same namespace, owners and label. Caches and counts are kept."""
        self._use(config, on)
        self._kept.most_bytes = config.exporter.cache_bytes
        intervals = config.exporter.stale_intervals
        self.rings.take_over(off, intervals)
        await asyncio.get_running_loop().run_in_executor(self._worker, self._history.take_over, off, intervals)

    def reload_quietly(self) -> None:
        """Begin to reread the configuration; the log has the result. For the event loop, at SIGHUP."""

        async def reloading() -> None:
            assert self.reload is not None
            with contextlib.suppress(ConfigurationError):  # which the log has
                await self.reload()

        self._reloading = asyncio.create_task(reloading())

    def close(self) -> None:
        self._worker.shutdown(cancel_futures=True)
        self.rings.close()
        self._history.close()
        self.applications.close()
        self._worker_applications.close()

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Starlette) -> AsyncIterator[None]:
        closing = asyncio.create_task(self._close_replaced_regularly())
        yield
        closing.cancel()

    async def _close_replaced_regularly(self) -> None:
        while True:
            await asyncio.sleep(_CLOSE_SECONDS)
            try:
                await self.close_replaced()
            except Exception as error:  # noqa: BLE001 - such as a thread that can't start: try again next time
                log.warning("replaced segments not closed", extra={"error": said(error)})

    async def close_replaced(self) -> None:
        """Close segments and tables that were replaced or removed, even when no request would notice it.

        While a process has them open, their memory counts against /dev/shm.
        """
        self.rings.close_replaced()
        self.applications.close_removed()

        def close_in_worker() -> None:
            self._history.close_replaced()
            self._worker_applications.close_removed()

        await asyncio.get_running_loop().run_in_executor(self._worker, close_in_worker)

    # ---- answers -------------------------------------------------------------------------------------------

    def _route(self, path: str, name: str, page: Page, *methods: str) -> Route:
        return Route(path, functools.partial(self._answer, name, page), methods=methods or ("GET",))

    async def _answer(self, name: str, page: Page, request: Request) -> Response:
        """The page, or an error: 400 for a bad query, 503 when the worker's queue is full, 500 for a bug."""
        begun = time.perf_counter()
        try:
            response = await page(request)
        except QueryError as error:
            response = _text(400, str(error))
        except Busy as error:
            response = _text(503, str(error), {"retry-after": str(_RETRY_SECONDS)})
        except asyncio.CancelledError:  # by the server, after its grace period
            response = _text(503, "the exporter is shutting down")
        except Exception as error:
            query = request.scope["query_string"][:200].decode("latin-1")
            log.error("request failed", extra={"page": name, "query": query}, exc_info=error)
            response = _text(500, "internal error; see the exporter's log")
        self.own.observe(name, response.status_code, time.perf_counter() - begun)
        return response

    async def _no_page(self, request: Request, error: Exception) -> Response:
        """404 for an unknown path, 405 for a method that the page does not have."""
        assert isinstance(error, HTTPException)
        self.own.observe("other", error.status_code, 0.0)
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        return _text(error.status_code, error.detail, {"allow": allowed} if allowed else None)

    def refused(self, status: int) -> None:
        """Count an error that the server answered without the application."""
        self.own.observe("none", status, 0.0)

    # ---- pages ---------------------------------------------------------------------------------------------

    async def _index(self, request: Request) -> Response:
        return Response(_INDEX, media_type="text/html")

    async def _metrics(self, request: Request) -> Response:
        chosen = negotiate(request.headers.get("accept", ""))
        query = parse_metrics_query(parse_query_string(request.scope["query_string"]), self._config.timestamps)
        parts = self.metrics_parts(query, chosen.form, chosen.escaping)
        # A server that scrapes, not a person; clients at a Unix socket can't be told apart.
        if TIMEOUT_HEADER in request.headers and request.client:
            self._scrapers.note(*request.client, query)
            self._note_misfits()
        return self._exposition(request, chosen, parts)

    def metrics_parts(
        self, query: MetricsQuery, form: Format, escaping: Escaping = Escaping.UNDERSCORES
    ) -> tuple[bytes, ...]:
        """The page /metrics, in parts."""
        rings, applications, own = self.rings.refresh(), self.applications.refresh(), self.own.refresh()
        all_shown: list[Shown] = [own, *rings, *applications]
        stale = self.rings.stale(all_shown)
        levels, precedence = present_levels(all_shown, stale), self._precedence
        catalogs = self.rings.key(), self.applications.generation, own.generation
        precedence.begin(catalogs)
        made_from = catalogs, precedence.state(levels)
        page = self._kept.get(query, made_from, lambda: MetricsPage(all_shown, query, levels, precedence.holders))
        precedence.note(page.gathered)
        self._note_conflicts(page.gathered.conflicts)
        return *page.render(all_shown, stale, form, escaping), form.end

    async def _aggregated(self, request: Request) -> Response:
        parameters = parse_query_string(request.scope["query_string"])
        query = parse_aggregated_query(parameters, self._window_ns)
        if query.window_ns > self._max_window_ns:
            raise QueryError(
                f"window={shown(dict(parameters)['window'])} is longer than {written(self._config.max_window)}, "
                "the longest that [exporter] max_window allows"
            )
        chosen = negotiate(request.headers.get("accept", ""))
        parts = await self._in_worker(request, lambda: self.aggregated_parts(query, chosen.form, chosen.escaping))
        return self._exposition(request, chosen, parts)

    def aggregated_parts(
        self, query: AggregatedQuery, form: Format, escaping: Escaping = Escaping.UNDERSCORES
    ) -> tuple[bytes, ...]:
        """The page /metrics/aggregated, in parts. Only for the worker thread."""
        return tuple(self._aggregator.page(query, form, escaping))

    async def _stats(self, request: Request) -> Response:
        self.rings.refresh()
        own, holders = self.own.refresh().series, self._precedence.holders
        found = await self._in_worker(
            request, lambda: reports.stats(self._history, own, self._worker_applications, self._metric_tables, holders)
        )
        return _json(200, found)

    async def _health(self, request: Request) -> Response:
        known = programs.read(programs.server_directory())
        # A source of a user's own class may be off by itself, which only programs that build sources know.
        on = None if self._on is None else [one for one in self._on if known is None or one in known]
        failing = list(programs.problems(known or {}))
        fresh, found = reports.health(self.rings, self.applications, on, failing, self.own.conflicts)
        if misfits := self._scrapers.problems(self.rings.rings.values()):
            found["scrape_intervals"] = sorted(set(misfits.values()))
        return _json(200 if fresh else 503, found)

    async def _alive(self, request: Request) -> Response:
        """That the exporter answers; /health has the state of what it reads."""
        return _text(200, "fogmetrics is healthy" if request.url.path == "/-/healthy" else "fogmetrics is ready")

    async def _reload(self, request: Request) -> Response:
        """Reread the configuration. Statuses as Prometheus: 403 where that is off, 500 if there are mistakes."""
        if self.reload is None or not self._config.web_enable_lifecycle:
            return _text(403, "reloading over HTTP is off; [exporter] web_enable_lifecycle = true turns it on")
        try:
            lines = await self.reload()
        except ConfigurationError as error:
            return _text(500, "\n".join(["the configuration is wrong, and nothing was changed:", *error.args]))
        said = lines or ["nothing that concerns the exporter has changed; fogmetrics reload takes over the rest"]
        return _text(200, "\n".join(["the configuration was reread", *said]))

    # ---- helpers -------------------------------------------------------------------------------------------

    async def _in_worker(self, request: Request, job: Callable[[], T]) -> T:
        """Run ``job`` in the worker thread and return its result. Raises Busy, and what ``job`` raises.

        A job that has not begun when the timeout of the server that scrapes is over is not begun.
        """
        if self._jobs >= self._config.max_jobs:
            raise Busy(f"{self._config.max_jobs} requests are waiting already; try again in {_RETRY_SECONDS} s")

        def run() -> T:
            try:
                return job()
            finally:
                self._history_counts = self._history.counts()

        self._jobs += 1
        try:
            await self._take_turn(request)
            try:
                if await request.is_disconnected():
                    raise Busy("the client has disconnected")
                return await asyncio.get_running_loop().run_in_executor(self._worker, run)
            finally:
                self._turn.release()
        finally:
            self._jobs -= 1

    async def _take_turn(self, request: Request) -> None:
        """Wait for the worker, as long as the server that scrapes allows. Raises Busy."""
        try:
            async with asyncio.timeout(_timeout_seconds(request)):
                await self._turn.acquire()
        except TimeoutError:
            raise Busy("requests before this one took longer than its timeout; ask less often, or for less") from None

    def _exposition(self, request: Request, chosen: Negotiated, parts: tuple[bytes, ...]) -> Response:
        page, headers = b"".join(parts), {"vary": "accept, accept-encoding"}
        if len(page) >= self._config.gzip_min_bytes and accepts_gzip(request.headers.get("accept-encoding", "")):
            page = zlib.compress(page, 1, _GZIP)  # higher levels take several times as long and save less than a fifth
            headers["content-encoding"] = "gzip"
        return Response(page, headers=headers, media_type=chosen.content_type)

    def _note_misfits(self) -> None:
        """Log each scrape interval that does not fit a source's, once until it fits."""
        misfits = self._scrapers.problems(self.rings.rings.values())
        for one, sentence in misfits.items():
            if one not in self._misfits:
                log.warning("scrape interval does not fit", extra={"error": sentence})
        self._misfits = misfits.keys()

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


def _timeout_seconds(request: Request) -> float | None:
    """The timeout of the server that scrapes, by its header; None without the header, or if it is no number above 0."""
    try:
        seconds = float(request.headers.get(TIMEOUT_HEADER, ""))
    except ValueError:
        return None
    return seconds if seconds > 0 else None


def _text(status: int, sentence: str, headers: dict[str, str] | None = None) -> Response:
    return PlainTextResponse(f"{sentence}\n", status, headers)


def _json(status: int, found: object) -> Response:
    return Response(orjson.dumps(found, option=orjson.OPT_INDENT_2) + b"\n", status, media_type="application/json")
