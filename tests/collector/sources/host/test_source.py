"""The source: which groups are read when, what stays in the frames between, and what a group costs that hangs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from collector import registry
from collector.__main__ import main
from collector.frame.collector import MetricCollector
from collector.source import Collection, Sample
from collector.sources.host.group import Group, gauge, stateless
from collector.sources.host.options import GROUPS, HostOptions
from collector.sources.host.source import HostMetricSource
from fogmetrics.config import parse
from shm.errors import ConfigurationError
from shm.files import ring_path
from tests.failing import raising
from tests.programs import wait_until
from tests.rings import newest


def group(name: str, job: Callable[[], float]) -> Group:
    metric = gauge(f"node_{name}", "A value.")
    return Group(name, (metric,), stateless(lambda _: Collection([Sample(metric.name, job())])))


def values(collection: Collection) -> dict[str, float | None]:
    return {one.metric: one.value for one in collection.samples if not one.labels}


def success(collection: Collection) -> dict[str, float | None]:
    return {
        one.labels["collector"]: one.value
        for one in collection.samples
        if one.metric == "node_scrape_collector_success"
    }


def test_a_group_that_hangs_is_marked_and_the_others_have_their_samples_in_this_frame() -> None:
    gate = threading.Event()
    read = []

    def hang() -> float:
        read.append("hwmon")
        gate.wait(60)
        return 1.0

    fail = raising(OSError(5, "Input/output error"))
    groups = [group("hwmon", hang), group("cpu", lambda: 7.0), group("stat", fail), group("time", lambda: 9.0)]
    source = HostMetricSource(HostOptions(group_timeout_seconds=0.2), groups)
    try:
        for _ in range(2):
            collection = source.collect()
            assert values(collection) == {"node_cpu": 7.0, "node_time": 9.0}
            assert success(collection) == {"hwmon": 0, "cpu": 1, "stat": 0, "time": 1}
            assert collection.up
            assert [error.split(":")[0] for error in collection.errors] == ["hwmon", "stat"]
        assert read == ["hwmon"]  # known to hang, it is not read again
    finally:
        gate.set()
    wait_until(lambda: values(source.collect()).get("node_hwmon") == 1.0, 10, "the group that came back")
    source.close()


def test_a_slow_group_does_not_lengthen_what_the_others_are_said_to_take() -> None:
    others_are_read = threading.Event()

    def slow() -> float:
        others_are_read.wait(60)
        time.sleep(0.3)
        return 1.0

    def quick() -> float:
        others_are_read.set()
        return 7.0

    groups = [group("filesystem", slow), group("cpu", quick)]
    source = HostMetricSource(HostOptions(group_timeout_seconds=30), groups)
    seconds = {
        one.labels["collector"]: one.value
        for one in source.collect().samples
        if one.metric == "node_scrape_collector_duration_seconds"
    }
    source.close()
    assert seconds["filesystem"] is not None
    assert seconds["cpu"] is not None
    assert seconds["cpu"] < seconds["filesystem"]


def test_a_group_is_read_at_its_cadence_and_its_samples_stand_in_each_frame_between() -> None:
    clock, read = SimpleNamespace(seconds=1000.0), Counter[str]()

    def counted(name: str) -> Callable[[], float]:
        def job() -> float:
            read[name] += 1
            return float(read[name])

        return job

    source = HostMetricSource(
        HostOptions(cadence={"filesystem": 60.0}),
        [group("filesystem", counted("filesystem")), group("cpu", counted("cpu"))],
        lambda: clock.seconds,
    )
    seen = []
    for tick in range(9):
        clock.seconds = 1000.0 + 15 * tick + (0.004 if tick % 3 else 0.0)  # ticks are not to the microsecond
        seen.append(source.collect())
    source.close()
    assert read == {"cpu": 9, "filesystem": 3}
    assert [values(one)["node_filesystem"] for one in seen] == [1, 1, 1, 1, 2, 2, 2, 2, 3]
    assert all(success(one) == {"filesystem": 1, "cpu": 1} for one in seen)


def test_the_errors_of_a_group_are_counted_when_it_is_read_and_its_mark_stays() -> None:
    clock = SimpleNamespace(seconds=1000.0)
    fail = raising(OSError(5, "Input/output error"))
    source = HostMetricSource(HostOptions(cadence={"stat": 60.0}), [group("stat", fail)], lambda: clock.seconds)
    found = []
    for _ in range(5):
        found.append(source.collect())
        clock.seconds += 15
    source.close()
    assert [len(one.errors) for one in found] == [1, 0, 0, 0, 1]
    assert not any(one.up for one in found)
    assert all(success(one) == {"stat": 0} for one in found)


def test_a_group_that_gives_nothing_but_errors_has_failed_and_one_with_samples_has_not() -> None:
    def with_error(name: str, *samples: Sample) -> Group:
        return Group(name, (gauge(f"node_{name}", "A value."),), stateless(lambda _: Collection(samples, ["odd line"])))

    source = HostMetricSource(HostOptions(), [with_error("stat"), with_error("cpu", Sample("node_cpu", 1))])
    collection = source.collect()
    source.close()
    assert success(collection) == {"stat": 0, "cpu": 1}
    assert list(collection.errors) == ["stat: odd line", "cpu: odd line"]


def test_only_the_chosen_groups_are_read_and_their_metrics_offered() -> None:
    source = HostMetricSource(HostOptions(groups=("loadavg", "time")))
    assert set(success(source.collect())) == {"loadavg", "time"}
    assert len(source.metrics) == 3 + 2 + 2
    source.close()
    assert {turn.group.name for turn in HostMetricSource()._turns} == set(GROUPS)


def test_cadences_are_a_table_and_the_old_list_is_read_with_a_note() -> None:
    def build(keys: str) -> HostMetricSource:
        source = registry.build("host", parse(f"[source.host]\n{keys}\n", Path("fogmetrics.toml")))
        assert isinstance(source, HostMetricSource)
        return source

    new = build("[source.host.cadence]\nfilesystem = 60\nhwmon = 1.5")
    old = build('cadence_seconds = ["filesystem=60", "hwmon=1.5"]')
    assert new.options.cadence == old.options.cadence == {"filesystem": 60.0, "hwmon": 1.5}
    assert list(new.notes) == []
    assert list(old.notes) == [
        "[source.host] cadence_seconds is the old spelling; write [source.host.cadence] filesystem = 60, hwmon = 1.5"
    ]
    for keys in ("[source.host.cadence]\ncpu = -1", 'cadence_seconds = ["cpu=nan"]'):
        with pytest.raises(
            ConfigurationError, match=r"\[source.host.cadence\] cpu is .*; give a duration from 0 to 1d"
        ):
            build(keys)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ('groups = ["cpus"]', "names 'cpus', which is not a group; did you mean 'cpu'?"),
        ('groups = ["zzz"]', "names 'zzz', which is not a group; the groups are cpu, "),
        ("groups = []", "groups is empty; give at least one of cpu, "),
        ("cadence = {cpus = 5}", "names 'cpus', which is not a group"),
        ("cadence_seconds = 60", "has 60; write [source.host.cadence] filesystem = 60"),
        ('cadence_seconds = ["cpu"]', "has 'cpu'; write [source.host.cadence] filesystem = 60"),
        ('cadence_seconds = ["cpu=soon"]', "has 'cpu=soon'; write [source.host.cadence] filesystem = 60"),
        ('rootfs = "host"', "give an absolute path"),
        ("group_timeout_seconds = 0", "give a duration from 10ms to 1m"),
    ],
)
def test_a_key_that_makes_no_sense_is_an_error_that_names_it(key: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\[source\.host\] " + key.split(" ")[0]) as raised:
        parse(f"[source.host]\n{key}\n", Path("fogmetrics.toml"))
    assert message in str(raised.value)


# ---- the collector's process ---------------------------------------------------------------------------------


def test_a_ring_that_is_left_of_it_is_named_with_what_removes_it(
    namespace: str, toml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    MetricCollector("host", namespace=namespace, capacity=8).close()
    assert main(["host", "--config", str(toml)]) == 0  # it is off
    assert "python -m collector host --unlink" in capsys.readouterr().err
    assert main(["host", "--config", str(toml), "--unlink"]) == 0
    assert not ring_path(namespace, "host").exists()


def test_once_prints_its_samples_also_where_it_is_off(toml: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["host", "--once", "--config", str(toml)]) == 0
    assert 'node_cpu_seconds_total{cpu="0",mode="user"} ' in capsys.readouterr().out


def test_256_processors_fit_without_a_key(namespace: str) -> None:
    source = HostMetricSource(HostOptions(groups=("cpu",)))
    modes = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    with MetricCollector(
        "host",
        namespace=namespace,
        capacity=8,
        max_series=source.default_max_series,
        max_series_per_metric=source.default_max_series_per_metric,
    ) as collector:
        collector.register(*source.metrics)
        for cpu in range(256):
            for mode in modes:
                assert collector.record_metric("node_cpu_seconds_total", 1.0, {"cpu": str(cpu), "mode": mode})
        collector.commit()
    assert len(newest(namespace, "host")) == 256 * len(modes)
