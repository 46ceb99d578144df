"""What is kept, within a number of bytes: layouts of queries, and what comes of long windows."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from exporter.cache import Cache
from exporter.exposition.latest import MetricsPage
from exporter.http.negotiation import Format
from exporter.http.parameters import AggregatedQuery, MetricsQuery
from exporter.window.page import AggregatedPage
from tests.exporter.scene import Scene, get


class Sized:
    def __init__(self, memory_bytes: int) -> None:
        self.memory_bytes = memory_bytes


def test_a_layout_is_kept_for_its_query_until_it_is_made_from_something_else() -> None:
    cache = Cache(1 << 20)
    first = cache.get("a", 1, lambda: Sized(10))
    assert cache.get("b", 1, lambda: Sized(10)) is not first
    assert cache.get("a", 1, lambda: Sized(10)) is first
    second = cache.get("a", 2, lambda: Sized(10))
    assert second is not first
    assert cache.get("a", 2, lambda: Sized(10)) is second


def test_those_asked_for_longest_ago_go_when_all_together_are_too_large() -> None:
    cache = Cache(1_000_000)
    made = {name: cache.get(name, 0, lambda: Sized(300_000)) for name in "abc"}
    assert cache.get("a", 0, lambda: Sized(300_000)) is made["a"]
    cache.get("d", 0, lambda: Sized(300_000))
    assert cache.get("a", 0, lambda: Sized(300_000)) is made["a"]
    assert cache.get("b", 0, lambda: Sized(300_000)) is not made["b"]
    assert cache.memory_bytes < 1_000_000


def test_one_that_is_too_large_by_itself_is_kept_until_the_next_or_not_at_all() -> None:
    cache = Cache(1000)
    large = cache.get("a", 0, lambda: Sized(10_000))
    assert cache.get("a", 0, lambda: Sized(10_000)) is large
    cache.get("b", 0, lambda: Sized(1))
    assert cache.memory_bytes < 10_000
    kept = cache.memory_bytes
    cache.get("c", 0, lambda: Sized(20_000), too_large=False)
    assert cache.memory_bytes == kept


def test_a_long_query_counts_too() -> None:
    cache = Cache(1_000_000)
    for i in range(100):
        cache.get("x" * 50_000 + str(i), 0, lambda: Sized(0))
    assert cache.memory_bytes <= 1_000_000
    assert len(cache._kept) < 20


@pytest.mark.parametrize("padding", [10, 300])
def test_a_layout_takes_no_more_memory_than_it_says(scene: Scene, padding: int) -> None:
    scene.commit("s", *[("temperature", 1.0, {"room": "x" * padding + str(i)}) for i in range(90)])
    exporter = scene.exporter()
    get(exporter, "/metrics/aggregated")
    rings = exporter.rings.refresh()

    def latest() -> MetricsPage:
        page = MetricsPage(rings, MetricsQuery())
        for form in Format:
            for stale in ([False], [True]):
                page.render(rings, stale, form)
        return page

    for make in (latest, lambda: AggregatedPage(rings, AggregatedQuery(1))):
        make()
        gc.collect()
        tracemalloc.start()
        page = make()
        gc.collect()
        took = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        assert 0.8 * took < page.memory_bytes < 8 * took


def test_all_that_is_kept_for_queries_shares_one_budget(scene: Scene) -> None:
    budget = 1 << 20
    samples = [("temperature", 1.0, {"room": str(i)}) for i in range(100)]
    scene.collector("s", capacity=1200)
    for _ in range(1100):
        scene.advance(15)
        scene.commit("s", *samples)
    exporter = scene.exporter(cache_bytes=budget)
    get(exporter, "/metrics/aggregated?window=5h")  # loads and allocates what is not kept for a query
    gc.collect()
    tracemalloc.start()
    for i in range(40):
        get(exporter, f"/metrics?name[]=temperature&name[]=x{i}")
        page = get(exporter, f"/metrics/aggregated?window={5 * 3600 + i}&stat=p99").text
    gc.collect()
    took = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert page.count("stat=") == 100
    assert took < 1.5 * budget
    assert 0 < exporter._kept.memory_bytes <= budget
