from __future__ import annotations

import threading

import pytest

from collector.frame.collector import MetricCollector
from collector.loop.source_thread import SourceThread
from collector.loop.timeouts import Hung
from collector.source import CollectResult, MetricSource, Sample
from shm.metric import Metric
from tests.programs import wait_until


class Source(MetricSource):
    name = "app"
    metrics = (Metric("depth", "gauge", "D."),)

    def __init__(self) -> None:
        self.threads: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def open(self) -> None:
        self.gate.wait(30)
        self.threads.append(threading.get_ident())

    def collect(self) -> CollectResult:
        self.threads.append(threading.get_ident())
        return [Sample("depth", 1.0)]

    def close(self) -> None:
        self.threads.append(threading.get_ident())


def test_a_source_is_opened_collected_and_closed_in_one_thread(namespace: str) -> None:
    source = Source()
    thread = SourceThread(source)
    with MetricCollector("app", namespace=namespace, capacity=64) as collector:
        collector.register(*source.metrics)
        thread.open(5)
        for _ in range(2):
            [result] = collector.collect_from_sources([thread], 5)
            assert (result.up, result.errors) == (True, [])
    thread.close(5)
    assert len(source.threads) == 4
    assert len(set(source.threads)) == 1
    assert source.threads[0] != threading.get_ident()


def test_a_source_that_opens_too_late_is_opened_once_its_call_returns() -> None:
    source = Source()
    source.gate.clear()
    thread = SourceThread(source)
    with pytest.raises(Hung, match=r"app did not answer within 0\.01 s"):
        thread.open(0.01)
    assert not thread.opened
    result = thread.finish(thread.start(5))
    assert not result.up
    assert "app still hangs in an earlier collection" in result.errors[0]
    source.gate.set()
    wait_until(lambda: thread.opened, 10, "the source to be open")
    thread.close(5)
