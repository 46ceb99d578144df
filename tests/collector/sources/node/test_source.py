from __future__ import annotations

import threading
from collections import namedtuple
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from collector.sources.node.source import NodeMetricSource, NodeOptions
from shm.errors import ConfigurationError

Cpu = namedtuple("Cpu", "user nice system idle iowait irq softirq steal guest guest_nice")


def nic(received: int, sent: int) -> SimpleNamespace:
    return SimpleNamespace(bytes_recv=received, bytes_sent=sent)


def mount(path: str, kind: str) -> SimpleNamespace:
    return SimpleNamespace(mountpoint=path, fstype=kind)


class FakeHost:
    """What psutil would say, as the test sets it."""

    def __init__(self) -> None:
        self.cpu: Any = Cpu(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        self.memory: Any = SimpleNamespace(total=1000, available=250)
        self.percent = 40.0
        self.mounts: Sequence[Any] = [mount("/", "ext4")]
        self.nics: Mapping[str, Any] = {}
        self.hang: threading.Event | None = None

    def cpu_times(self) -> Any:
        return self.cpu

    def virtual_memory(self) -> Any:
        return self.memory

    def disk_usage(self, path: str) -> Any:
        if self.hang:
            self.hang.wait(30)
        return SimpleNamespace(percent=self.percent)

    def disk_partitions(self, all: bool = False) -> Sequence[Any]:  # noqa: A002 - psutil's word
        assert all, "the root of a container is no physical device"
        return self.mounts

    def net_io_counters(self, pernic: bool = False, nowrap: bool = True) -> Mapping[str, Any]:
        assert pernic
        assert not nowrap, "psutil would add up the counters of interfaces that are gone"
        return self.nics

    def close(self) -> None:
        pass


class Node:
    """A source on a fake host, with a clock that moves ten seconds between two collections."""

    def __init__(self, **options: Any) -> None:
        self.host = FakeHost()
        self.now = 100.0
        self.source = NodeMetricSource(NodeOptions(node_id="fog-1", **options), self.host, lambda: self.now)

    def collect(self, seconds: float = 10.0) -> dict[str, float | None]:
        self.now += seconds
        self.collection = self.source.collect()
        assert all(sample.labels == {"node_id": "fog-1"} for sample in self.collection.samples)
        return {sample.metric: sample.value for sample in self.collection.samples}


@pytest.fixture
def node() -> Node:
    return Node()


def test_cpu_usage_is_of_the_whole_interval_and_waiting_for_io_is_idle(node: Node) -> None:
    node.host.cpu = Cpu(100, 0, 50, 1000, 20, 0, 0, 0, 0, 0)
    node.source.open()
    node.host.cpu = Cpu(103, 0, 51, 1014, 22, 0, 0, 0, 0, 0)  # 4 s busy of 20 s
    assert node.collect()["node_cpu_usage"] == pytest.approx(20.0)


def test_the_time_of_guests_is_not_counted_twice(node: Node) -> None:
    node.source.open()
    node.host.cpu = Cpu(10, 0, 0, 10, 0, 0, 0, 0, 10, 0)  # all of user was a guest's
    assert node.collect()["node_cpu_usage"] == pytest.approx(50.0)


def test_cpu_usage_is_absent_without_a_baseline_and_when_no_time_passed(node: Node) -> None:
    assert "node_cpu_usage" not in node.collect()
    assert "node_cpu_usage" not in node.collect()
    assert node.collection.up


def test_cpu_times_that_go_back_never_give_a_share_below_0_or_above_100(node: Node) -> None:
    node.host.cpu = Cpu(100, 0, 0, 100, 50, 0, 0, 0, 0, 0)
    node.source.open()
    node.host.cpu = Cpu(110, 0, 0, 100, 49, 0, 0, 0, 0, 0)
    assert node.collect()["node_cpu_usage"] == 100.0
    node.host.cpu = Cpu(109, 0, 0, 120, 49, 0, 0, 0, 0, 0)
    assert node.collect()["node_cpu_usage"] == 0.0


def test_memory_usage_is_what_new_programs_can_not_have(node: Node) -> None:
    assert node.collect()["node_memory_usage"] == 75.0


def test_network_io_is_the_bytes_of_both_directions_per_second(node: Node) -> None:
    node.host.nics = {"eth0": nic(1000, 500)}
    node.source.open()
    node.host.nics = {"eth0": nic(3000, 1500)}
    assert node.collect(10)["node_network_io"] == 300.0


def test_interfaces_that_come_and_go_make_no_jump_and_a_reset_no_negative_rate(node: Node) -> None:
    node.host.nics = {"eth0": nic(1000, 0), "wlan0": nic(9_000_000, 0)}
    node.source.open()
    node.host.nics = {"eth0": nic(2000, 0), "usb0": nic(7_000_000, 0)}
    assert node.collect(10)["node_network_io"] == 100.0
    node.host.nics = {"eth0": nic(500, 0), "usb0": nic(7_000_100, 0)}  # eth0 was reset, and moved 500 since
    assert node.collect(10)["node_network_io"] == 60.0


def test_virtual_interfaces_are_left_out_unless_configured(node: Node) -> None:
    names = ["lo", "veth12ab", "docker0", "br-8c1f", "virbr0", "bond0", "tun0", "wg0", "eth0.100", "eth0", "wlan0"]
    node.host.nics = {name: nic(0, 0) for name in names}
    node.source.open()
    node.host.nics = {name: nic(10, 0) for name in names}
    assert node.collect(10)["node_network_io"] == 2.0
    everything = Node(network_exclude=())
    everything.host.nics = {name: nic(0, 0) for name in names}
    everything.source.open()
    everything.host.nics = {name: nic(10, 0) for name in names}
    assert everything.collect(10)["node_network_io"] == 11.0


def test_a_file_system_that_hangs_costs_the_disk_sample_alone() -> None:
    node = Node(disk_timeout_seconds=0.05)
    node.host.hang = threading.Event()
    found = node.collect()
    assert "node_disk_usage" not in found
    assert found["node_memory_usage"] == 75.0
    assert "disk usage of / did not answer" in node.collection.errors[0]
    assert node.collection.up
    assert "node_disk_usage" not in node.collect()
    assert "still hangs" in node.collection.errors[0]
    node.host.hang.set()


def test_a_network_file_system_is_never_asked() -> None:
    node = Node(disk_path="/srv/data")
    node.host.mounts = [mount("/", "ext4"), mount("/srv", "nfs4"), mount("/srv/database", "ext4")]
    node.host.hang = threading.Event()
    assert "node_disk_usage" not in node.collect()
    assert "nfs4" in node.collection.errors[0]
    assert "disk_path" in node.collection.errors[0]
    node.host.hang.set()
    node.host.mounts = [mount("/", "nfs4"), mount("/srv", "ext4")]
    node.host.percent = 12.5
    assert node.collect()["node_disk_usage"] == 12.5


def test_a_reading_that_raises_costs_itself_alone(node: Node) -> None:
    node.host.memory = None
    found = node.collect()
    assert "node_memory_usage" not in found
    assert found["node_disk_usage"] == 40.0
    [error] = node.collection.errors
    assert error.startswith("node_memory_usage: AttributeError")


def test_a_relative_disk_path_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"\[source.node\] disk_path is 'data'"):
        NodeMetricSource(NodeOptions(disk_path="data"))


def test_the_real_host_gives_all_four_metrics_within_their_ranges() -> None:
    source = NodeMetricSource(NodeOptions(node_id="here"))
    source.open()
    before = psutil.cpu_times()
    while sum(psutil.cpu_times()) - sum(before) < 0.05:  # until the kernel has counted some ticks
        pass
    found = {sample.metric: sample.value for sample in source.collect().samples}
    assert set(found) == {"node_cpu_usage", "node_memory_usage", "node_disk_usage", "node_network_io"}
    assert all(value is not None and 0 <= value <= 100 for name, value in found.items() if name != "node_network_io")
    assert found["node_disk_usage"] == pytest.approx(psutil.disk_usage("/").percent, abs=5)
    assert found["node_memory_usage"] == pytest.approx(psutil.virtual_memory().percent, abs=10)
