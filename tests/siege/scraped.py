"""The exporter that bad clients besiege: the real one, in a process of its own, over two rings of known values."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from typing import Final

from collector.frame.collector import MetricCollector
from shm.metric import Metric
from tests.programs import Program, exporting
from tests.siege.harness import own_namespace
from tests.siege.scraper import Page

PLACES: Final = 64
KEEP_ALIVE_SECONDS: Final = 1.0
ANSWER_SECONDS: Final = 4.0
LIMITS: Final = f"""\
max_connections = {PLACES}
keep_alive_seconds = {KEEP_ALIVE_SECONDS}
request_seconds = 1.0
answer_seconds = {ANSWER_SECONDS}
"""
_SERIES: Final = 1000  # of each of two rings
_LABEL_CHARACTERS: Final = 480  # so that a page has 1 MB
_FILES: Final = 4096  # descriptors that this process needs for a thousand connections and more


@contextlib.contextmanager
def scraped() -> Iterator[tuple[Program, int, Page]]:
    """The exporter, its port, and what each scrape of it must hold."""
    with contextlib.ExitStack() as stack:
        namespace = stack.enter_context(own_namespace())
        stack.enter_context(_files(_FILES))
        page = Page([line for name in ("one", "two") for line in _ring(stack, namespace, name)])
        program, port = stack.enter_context(exporting(namespace, LIMITS))
        yield program, port, page


def _ring(stack: contextlib.ExitStack, namespace: str, name: str) -> list[bytes]:
    """A ring of that name with one frame, and its lines of the page."""
    collector = stack.enter_context(
        MetricCollector(
            name, namespace=namespace, interval_seconds=3600, capacity=8,
            max_series=10_000, max_series_per_metric=10_000,
        )
    )  # fmt: skip
    collector.register(Metric("load", "gauge", "A value that proves itself.", "", ("column",)))
    lines = []
    for i in range(_SERIES):
        label, value = f"{name}-{i:0{_LABEL_CHARACTERS}}", i * 1.5 + len(name)
        collector.record_metric("load", value, {"column": label})
        lines.append(f'load{{column="{label}"}} {value}'.encode())
    collector.commit()
    return lines


@contextlib.contextmanager
def _files(wanted: int) -> Iterator[None]:
    """That many file descriptors for this process, as far as it may have them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
