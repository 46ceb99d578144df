from __future__ import annotations

import itertools
import os
import socket
import threading
from collections import namedtuple
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collector.metrics import NODE
from collector.sources.host.options import NETWORK_FILE_SYSTEMS, HostOptions
from collector.sources.node.source import NodeMetricSource, NodeOptions
from shm.errors import ConfigurationError
from tests.failing import raising

Cpu = namedtuple("Cpu", "user nice system idle iowait irq softirq steal guest guest_nice")


def nic(received: int, sent: int) -> SimpleNamespace:
    return SimpleNamespace(bytes_recv=received, bytes_sent=sent)


def mount(path: str, kind: str) -> SimpleNamespace:
    return SimpleNamespace(mountpoint=path, fstype=kind)


class FakeHost:
    """What psutil would say, as the test sets it."""

    def __init__(self) -> None:
        self.cpu = Cpu(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
        self.memory: Any = SimpleNamespace(total=1000, available=250)
        self.percent = 40.0
        self.mounts = [mount("/", "ext4")]
        self.nics: dict[str, Any] = {}
        self.hang = threading.Event()
        self.hang.set()
        self.cpu_times = lambda: self.cpu
        self.virtual_memory = lambda: self.memory

    def disk_usage(self, path: str) -> Any:
        self.hang.wait(30)
        return SimpleNamespace(percent=self.percent)

    def disk_partitions(self, all: bool = False) -> Sequence[Any]:  # noqa: A002 - psutil's word
        assert all, "the root of a container is no physical device"
        return self.mounts

    def net_io_counters(self, pernic: bool = False, nowrap: bool = True) -> dict[str, Any]:
        assert pernic
        assert not nowrap, "psutil would add up the counters of interfaces that are gone"
        return self.nics


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


METRICS = {metric.name for metric in NODE}


def every_collection(node: Node) -> Iterator[dict[str, float | None]]:
    """Of a processor that is busy, after the baselines and after the first one."""
    for tick in range(3):
        node.host.cpu = Cpu(100 + tick, 0, 50, 1000 + tick, 20, 0, 0, 0, 0, 0)
        if not tick:
            node.source.open()
            continue
        yield node.collect()


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
    for one, rate in ((node, 2.0), (Node(network_exclude=()), 11.0)):
        one.host.nics = {name: nic(0, 0) for name in names}
        one.source.open()
        one.host.nics = {name: nic(10, 0) for name in names}
        assert one.collect(10)["node_network_io"] == rate


def test_a_file_system_that_hangs_costs_the_disk_sample_alone() -> None:
    node = Node(disk_timeout_seconds=0.05)
    node.host.hang.clear()
    found = node.collect()
    assert "node_disk_usage" not in found
    assert found["node_memory_usage"] == 75.0
    assert "disk usage of / did not answer" in node.collection.errors[0]
    assert node.collection.up
    assert "node_disk_usage" not in node.collect()
    assert "still hangs" in node.collection.errors[0]
    node.host.hang.set()


@pytest.mark.parametrize("kind", NETWORK_FILE_SYSTEMS)
def test_a_network_file_system_is_never_asked(kind: str) -> None:
    assert kind in HostOptions().filesystem_exclude_types
    node = Node(disk_path="/srv/data")
    node.host.mounts = [mount("/", "ext4"), mount("/srv", kind), mount("/srv/database", "ext4")]
    node.host.hang.clear()
    assert "node_disk_usage" not in node.collect()
    assert kind in node.collection.errors[0]
    assert "disk_path" in node.collection.errors[0]
    node.host.hang.set()
    node.host.mounts = [mount("/", "nfs4"), mount("/srv", "ext4")]
    node.host.percent = 12.5
    assert node.collect()["node_disk_usage"] == 12.5


@pytest.mark.parametrize(
    ("function", "metric", "origin"),
    [
        ("cpu_times", "node_cpu_usage", "; it is read from /proc/stat"),
        ("virtual_memory", "node_memory_usage", "; it is read from /proc/meminfo"),
        ("disk_partitions", "node_disk_usage", ""),
        ("disk_usage", "node_disk_usage", ""),
        ("net_io_counters", "node_network_io", "; it is read from /proc/net/dev"),
    ],
)
def test_a_reading_that_raises_costs_itself_alone_from_the_start_and_comes_back(
    node: Node, function: str, metric: str, origin: str
) -> None:
    works = getattr(node.host, function)
    setattr(node.host, function, raising(PermissionError(13, "Permission denied")))
    for found in every_collection(node):
        assert set(found) == METRICS - {metric}
        [error] = node.collection.errors
        assert error == f"{metric}: PermissionError: [Errno 13] Permission denied{origin}"
    setattr(node.host, function, works)
    *_, found = every_collection(node)
    assert set(found) == METRICS
    assert not node.collection.errors


def test_a_relative_disk_path_is_refused_by_name() -> None:
    with pytest.raises(ConfigurationError, match=r"\[source.node\] disk_path is 'data'"):
        NodeMetricSource(NodeOptions(disk_path="data"))


# ---- this host, by readings of its own ---------------------------------------------------------------------------


def busy_and_total() -> tuple[int, int]:
    """Ticks of all CPUs from /proc/stat: ``cpu  user nice system idle iowait irq softirq steal guest guest_nice``."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def memory_percent() -> float:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    total, available = (int(lines[name].split()[0]) for name in ("MemTotal", "MemAvailable"))
    return 100 * (total - available) / total


def bytes_moved() -> int:
    """Bytes in both directions of all interfaces, from /proc/net/dev."""
    rows = [line.rsplit(":", 1)[1].split() for line in Path("/proc/net/dev").read_text().splitlines()[2:]]
    return sum(int(row[0]) + int(row[8]) for row in rows)


def test_the_values_of_this_host_are_those_of_proc_and_statvfs() -> None:
    clock = itertools.count()  # one second from one collection to the next, so that a rate is a number of bytes
    source = NodeMetricSource(NodeOptions(node_id="here", network_exclude=()), clock=lambda: next(clock))
    moved_before, cpu_before = bytes_moved(), busy_and_total()
    source.open()
    moved_open = bytes_moved()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.bind(("127.0.0.1", 0))
        sender.sendto(bytes(30_000), sender.getsockname())
    while busy_and_total()[1] - cpu_before[1] < 100:  # until the kernel has counted some ticks
        pass
    least_moved, least_percent = bytes_moved() - moved_open, memory_percent()
    found = {sample.metric: sample.value for sample in source.collect().samples}
    cpu_after = busy_and_total()
    assert set(found) == {"node_cpu_usage", "node_memory_usage", "node_disk_usage", "node_network_io"}
    busy, total = (after - before for after, before in zip(cpu_after, cpu_before, strict=True))
    assert found["node_cpu_usage"] == pytest.approx(100 * busy / total, abs=10)
    assert found["node_memory_usage"] == pytest.approx(least_percent, abs=5)
    disk = os.statvfs("/")
    used = disk.f_blocks - disk.f_bfree
    assert found["node_disk_usage"] == pytest.approx(100 * used / (used + disk.f_bavail), abs=1)
    assert found["node_network_io"] is not None
    assert 60_000 <= least_moved <= found["node_network_io"] <= bytes_moved() - moved_before
