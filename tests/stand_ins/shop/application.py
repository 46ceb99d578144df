"""A WSGI application as one instruments it for prometheus_client's multiprocess mode; it knows nothing of the drop-in.

What it observes follows from the number ``n`` of a request, so that whoever asked knows what has to be counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Enum, Gauge, Histogram, Info, Summary
from prometheus_client import generate_latest as page_of
from prometheus_client.multiprocess import MultiProcessCollector

REQUESTS = Counter("shop_requests", "Requests.", ["path"])
FAILURES = Counter("shop_failures", "Requests that failed.")
SECONDS = Histogram("shop_request_seconds", "Made of the number.", ["path"], buckets=(0.25, 0.5))
BYTES = Summary("shop_answer_bytes", "Made of the number.", ["path"])
TIMED = Histogram("shop_timed_seconds", "Time to answer.")
BUSY = Gauge("shop_busy", "Requests in progress.", multiprocess_mode="livesum")
LARGEST = Gauge("shop_largest_number", "The largest number.", multiprocess_mode="max")
NEWEST = Gauge("shop_newest_number", "The newest number.", multiprocess_mode="mostrecent")
EACH = Gauge("shop_worker_number", "The last number of each worker.", multiprocess_mode="liveall")
EVERY = Gauge("shop_any_worker_number", "The last number of each worker that ever was.")
BUILD = Info("shop_build", "What runs.")
STATE = Enum("shop_state", "What it does.", states=["starting", "serving"])

BUILD.info({"version": "1"})


@BUSY.track_inprogress()
@TIMED.time()
def answer(path: str, number: int) -> bytes:
    if path == "/metrics":
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return page_of(registry)
    REQUESTS.labels(path).inc()
    SECONDS.labels(path=path).observe((number % 4) / 4)
    BYTES.labels(path).observe(number % 8)
    LARGEST.set(number)
    NEWEST.set(number)
    EACH.set(number)
    EVERY.set(number)
    STATE.state("serving")
    if path == "/failing":
        with FAILURES.count_exceptions():
            raise KeyError(path)
    return b"answered\n"


def application(
    environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]
) -> Iterable[bytes]:
    query = parse_qs(environ.get("QUERY_STRING", ""))
    try:
        body = answer(environ["PATH_INFO"], int(query.get("n", ["0"])[0]))
    except KeyError:
        body = b"failed, as it should\n"
    start_response("200 OK", [("Content-Type", CONTENT_TYPE_LATEST), ("Content-Length", str(len(body)))])
    return [body]
