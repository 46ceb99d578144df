"""SharedCollector: what a user of it calls, and what it refuses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from collector.frame.collector import MetricCollector
from fogmetrics.application import shared_collector
from fogmetrics.application.shared_collector import SharedCollector
from shm.errors import ConfigurationError, MetricError
from shm.table import dead, removal
from shm.table.cells import CounterCell
from shm.table.format import files_of, listed
from shm.table.process import ProcessTable
from tests.application import Process, merged
from tests.failing import raising


@pytest.fixture
def collector(namespace: str) -> Iterator[SharedCollector]:
    collector = SharedCollector("web", namespace=namespace)
    collector.register_metric("requests", "counter", help="R.", label_names=("path",))
    collector.register_metric("busy", "gauge", help="B.")
    collector.register_metric("seconds", "histogram", help="S.", buckets=(1, 2))
    collector.register_metric("bytes", "summary", help="B.")
    yield collector
    shared_collector._tables.pop((namespace, "web")).close()


def test_every_type_is_recorded_and_merged(collector: SharedCollector, namespace: str) -> None:
    collector.increment("requests", labels={"path": "/"})
    collector.increment("requests", 2.5, {"path": "/"})
    collector.record_metric("requests", 9, {"path": "/total"})
    collector.record_metric("busy", 3)
    collector.increment("busy", -1)
    collector.record_metric("seconds", 1.5)
    collector.record_metric("bytes", 7)
    found = merged(namespace)
    assert found.pop("seconds{}")[1:] == [0.0, 1.0, 1.0, 1.5]
    assert found == {"requests{/}": [3.5], "requests{/total}": [9.0], "busy{}": [2.0], "bytes{}": [1.0, 7.0]}


def test_a_series_is_at_hand_for_code_that_counts_often(collector: SharedCollector, namespace: str) -> None:
    cell = collector.series("requests", {"path": "/"})
    assert isinstance(cell, CounterCell)
    cell.inc(2.0)
    collector.increment("requests", 1, {"path": "/"})
    assert merged(namespace) == {"requests{/}": [3.0]}


def test_two_collectors_of_a_process_share_its_table(collector: SharedCollector, namespace: str) -> None:
    other = MetricCollector.shared("web", namespace=namespace)
    other.register_metric("requests", "counter", help="R.", label_names=("path",))
    other.increment("requests", 1, {"path": "/"})
    collector.increment("requests", 1, {"path": "/"})
    assert merged(namespace) == {"requests{/}": [2.0]}
    assert len(files_of(namespace, "web")) == 1


def test_a_second_collector_of_a_name_has_the_settings_of_the_first_or_is_refused_with_both_values(
    namespace: str,
) -> None:
    SharedCollector("web", namespace=namespace, max_series=2)
    SharedCollector("web", namespace=namespace)
    MetricCollector.shared("web", namespace=namespace, max_series=2, group="")
    for settings, said in (
        ({"max_series": 5000}, "has max_series 2 in this process.* can't have 5000 as well; give all"),
        ({"group": str(os.getegid())}, f"has group '' in this process.* can't have '{os.getegid()}' as well"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            SharedCollector("web", namespace=namespace, **settings)
    SharedCollector("api", namespace=namespace, max_series=5000)
    for name in ("web", "api"):
        shared_collector._tables.pop((namespace, name)).close()


@pytest.mark.parametrize("most", [0, -1, "5", 2.0, True])
def test_a_setting_that_no_collector_can_have_is_refused_at_once(namespace: str, most: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"the application 'web' has the max_series {most!r}; give a whole"):
        SharedCollector("web", namespace=namespace, max_series=most)
    assert files_of(namespace, "web") == []


def test_a_label_s_value_that_is_no_text_is_removed_as_it_was_counted(
    collector: SharedCollector, namespace: str
) -> None:
    for path in (404, 200):
        collector.increment("requests", labels={"path": path})  # type: ignore[dict-item]
    collector.remove("requests", {"path": 404})  # type: ignore[dict-item]
    assert merged(namespace) == {"requests{200}": [1.0]}


def test_removed_and_cleared_series_go(collector: SharedCollector, namespace: str) -> None:
    for path in "abc":
        collector.increment("requests", 1, {"path": path})
    collector.record_metric("busy", 1)
    collector.remove("requests", {"path": "a"})
    assert set(merged(namespace)) == {"requests{b}", "requests{c}", "busy{}"}
    collector.clear("requests")
    assert set(merged(namespace)) == {"busy{}"}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda one: one.increment("nosuch"), "'nosuch' is not registered"),
        (lambda one: one.record_metric("busy", "7"), "got '7'.*; give a number"),
        (lambda one: one.record_metric("seconds", None), "got None"),
        (lambda one: one.record_metric("seconds", float("nan")), "got NaN, which is in no bucket"),
        (lambda one: one.record_metric("requests", 1), "but the sample has"),
        (lambda one: one.increment("requests", -1, {"path": "/"}), "a counter is never below 0"),
        (lambda one: one.increment("requests", float("nan"), {"path": "/"}), "give a finite number"),
        (lambda one: one.increment("seconds"), "histogram 'seconds' can't be incremented by 1.0"),
        (lambda one: one.clear("nosuch"), "'nosuch' is not registered"),
        (lambda one: one.register_metric("busy", "counter"), "metric 'busy' is registered as"),
        (lambda one: one.register_metric("g", "gauge", across="median"), "use one of sum, avg"),
    ],
)
def test_what_is_wrong_is_refused_by_name_and_stores_nothing(
    collector: SharedCollector, namespace: str, call: object, said: str
) -> None:
    assert callable(call)
    with pytest.raises(MetricError, match=said):
        call(collector)
    assert merged(namespace) == {}


def test_a_label_s_value_that_a_client_sent_never_ends_the_program(
    collector: SharedCollector, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("x" * 1001, "\ud800"):
        collector.increment("requests", 1, {"path": path})
    collector.increment("requests", 2, {"path": 404})  # type: ignore[dict-item]  # as prometheus_client takes it
    assert merged(namespace) == {"requests{404}": [2.0]}
    [record] = caplog.records
    assert "has 1001 characters" in record.getMessage()


def test_namespace_and_group_are_those_of_the_environment(namespace: str) -> None:
    with Process(namespace, environ={"FOGMETRICS_GROUP": str(os.getegid())}) as process:
        assert process.do("collector._table.group") == repr(str(os.getegid()))
        assert list(listed(namespace)) == ["web"]


def test_the_memory_of_the_dead_is_reclaimed_by_the_next_process_and_at_an_orderly_end(namespace: str) -> None:
    count = "collector.register_metric('r', 'counter'); collector.increment('r')"
    for turn in range(5):
        with Process(namespace) as process:
            process.do(count)
            assert (
                sorted(who.startswith("retired") for who in listed(namespace)["web"]) == [False, True][: 1 + (turn > 0)]
            )
            if turn % 2:
                process.kill()
            else:
                process.end()
                assert listed(namespace)["web"] == ["retired"]
    with Process(namespace):
        assert merged(namespace) == {"r{}": [5.0]}


def test_a_program_starts_and_goes_on_without_shared_memory(namespace: str) -> None:
    begin = (
        "import logging, resource; seen = []; resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "from fogmetrics.application import shared_collector as s; s.log.warning = lambda *a: seen.append(a[0] % a[1:])"
    )
    with Process(namespace, begin) as process:
        process.do("collector = s.SharedCollector('web', max_series=2)")
        process.do(
            "collector.register_metric('r', 'counter', label_names=('l',)); collector.increment('r', 2, {'l': 1})"
        )
        process.do("collector.increment('r', 3, {'l': '1'}); collector.remove('r', {'l': '2'})")
        assert process.do("collector.series('r', {'l': '1'}).get()") == "5.0"
        assert merged(namespace) == {}
        assert process.do("len(seen)") == "1"
        assert "of application 'web' are not exported by this process: " in process.do("seen[0]")
        assert "MiB of shared memory" in process.do("seen[0]")


def test_what_can_t_be_folded_does_not_keep_a_process_from_beginning(
    namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dead, "fold", raising(OSError("no")))
    SharedCollector("web", namespace=namespace)
    assert [one.getMessage() for one in caplog.records] == ["dead processes of application 'web' not folded: no"]
    shared_collector._tables.pop((namespace, "web")).close()


def test_what_can_t_be_removed_everywhere_is_said(
    collector: SharedCollector, namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    collector.increment("requests", 1, {"path": "a"})
    monkeypatch.setattr(removal, "remove_elsewhere", raising(OSError("no")))
    collector.remove("requests", {"path": "a"})
    assert merged(namespace) == {}
    assert [one.getMessage() for one in caplog.records] == [
        "series of application 'web' removed only in this process: no"
    ]


def test_one_process_alone_may_have_the_ring_and_another_hears_of_the_shared_way(namespace: str) -> None:
    with MetricCollector("queue", namespace=namespace):
        assert isinstance(
            shared_collector.table_of("queue", namespace), ProcessTable
        )  # a ring and an application may have one name
    shared_collector._tables.pop((namespace, "queue")).close()
