from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from collector.sources.node.host_readings import (
    CpuTimes,
    InterfaceBytes,
    LinuxHost,
    Memory,
    Mount,
    cpu_times,
    interface_bytes,
    memory_of,
    mounts,
    used_percent,
)

STAT = """cpu  1000 200 300 40000 50 6 7 8 90 10
cpu0 500 100 150 20000 25 3 3 4 45 5
intr 1462898 0 0
"""
MEMINFO = """MemTotal:       16384256 kB
MemFree:         1048576 kB
MemAvailable:    8192128 kB
Buffers:           1024 kB
Cached:         2097152 kB
"""
NET_DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1234567    1111    0    0    0     0          0         0  1234567    1111    0    0    0     0       0          0
  eth0:98765432101 7654321    0    3    0     0          0        12 12345678901 6543210    0    0    0     0       0          0
"""  # noqa: E501 - as the kernel writes it


@pytest.fixture
def host() -> Iterator[LinuxHost]:
    made = LinuxHost()
    yield made
    made.close()


def test_cpu_times_are_seconds_of_all_cpus_together() -> None:
    assert cpu_times(STAT, 100) == CpuTimes(10.0, 2.0, 3.0, 400.0, 0.5, 0.06, 0.07, 0.08, 0.9, 0.1)


def test_a_kernel_that_counts_fewer_or_more_kinds_of_cpu_time_is_understood() -> None:
    assert cpu_times("cpu  100 0 300 4000\n", 100) == CpuTimes(1.0, 0.0, 3.0, 40.0)
    assert cpu_times("cpu  1 1 1 1 1 1 1 1 1 1 99\n", 1) == CpuTimes(*[1.0] * 10)


def test_memory_is_what_the_kernel_says_is_available() -> None:
    assert memory_of(MEMINFO) == Memory(16384256 * 1024, 8192128 * 1024)


@pytest.mark.parametrize("line", ["", "MemAvailable:          0 kB\n"])
def test_without_a_word_of_what_is_available_psutil_is_asked(tmp_path: Path, line: str) -> None:
    text = MEMINFO.replace("MemAvailable:    8192128 kB\n", line)
    assert memory_of(text) is None
    (tmp_path / "meminfo").write_text(text)
    host = LinuxHost(str(tmp_path))
    assert host.virtual_memory().total == psutil.virtual_memory().total
    host.close()


def test_more_available_than_there_is_in_all_is_the_hosts_and_not_the_containers() -> None:
    text = MEMINFO.replace("MemTotal:       16384256 kB", "MemTotal:        2097152 kB")
    assert memory_of(text) == Memory(2097152 * 1024, 1048576 * 1024)


def test_what_root_alone_may_have_is_neither_used_nor_space() -> None:
    assert used_percent(blocks=1000, free=550, available=450) == 50.0
    assert used_percent(blocks=1000, free=333, available=333) == 66.7
    assert used_percent(blocks=0, free=0, available=0) == 0.0


def test_characters_that_would_end_a_field_are_read_back_from_their_octal_form() -> None:
    text = (
        "/dev/sda1 / ext4 rw,relatime 0 0\n"
        "/dev/sdb1 /mnt/my\\040disk\\011\\012 xfs rw 0 0\n"
        "/dev/sdc1 /mnt/back\\134040slash vfat rw 0 0\n"
        "/dev/sdd1 /mnt/page\x0cfeed\x85 ext4 rw 0 0\n"
    )
    assert mounts(text) == [
        Mount("/", "ext4"),
        Mount("/mnt/my disk\t\n", "xfs"),
        Mount("/mnt/back\\040slash", "vfat"),
        Mount("/mnt/page\x0cfeed\x85", "ext4"),
    ]


def test_bytes_of_an_interface_are_the_first_and_the_ninth_number_also_without_a_space_before() -> None:
    assert interface_bytes(NET_DEV) == {
        "lo": InterfaceBytes(1234567, 1234567),
        "eth0": InterfaceBytes(98765432101, 12345678901),
    }


def test_an_alias_has_a_colon_in_its_name() -> None:
    assert list(interface_bytes(NET_DEV.replace("  eth0:", "eth0:1:"))) == ["lo", "eth0:1"]


def test_a_file_longer_than_one_read_is_read_whole_and_anew_each_time(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    file = tmp_path / "self" / "mounts"
    file.write_text("".join(f"/dev/sd{i} /mnt/{i} ext4 rw 0 0\n" for i in range(5000)))
    host = LinuxHost(str(tmp_path))
    assert len(host.disk_partitions()) == 5000
    file.write_text("/dev/sda1 / ext4 rw,relatime 0 0\n")
    assert host.disk_partitions() == [Mount("/", "ext4")]
    host.close()
    file.write_text("/dev/sda1 / xfs rw,relatime 0 0\n")
    assert host.disk_partitions() == [Mount("/", "xfs")]
    host.close()


def test_a_file_that_is_not_there_is_said_by_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="meminfo"):
        LinuxHost(str(tmp_path)).virtual_memory()


def test_closing_gives_the_descriptors_back_and_reading_goes_on(host: LinuxHost) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        host.cpu_times()
        host.virtual_memory()
        assert len(os.listdir("/proc/self/fd")) == before + 2
    host.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert host.cpu_times().user >= 0


# ---- psutil says the same of this host ---------------------------------------------------------------------------


def test_cpu_times_are_those_of_psutil(host: LinuxHost) -> None:
    before, ours, after = psutil.cpu_times(), host.cpu_times(), psutil.cpu_times()
    assert ours._fields[: len(before)] == before._fields
    for name in before._fields:
        # The kernel may correct iowait and idle downwards by a tick or two.
        assert getattr(before, name) - 0.1 <= getattr(ours, name) <= getattr(after, name) + 0.1, name


def test_memory_is_that_of_psutil(host: LinuxHost) -> None:
    theirs, ours = psutil.virtual_memory(), host.virtual_memory()
    assert ours.total == theirs.total
    assert ours.available == pytest.approx(theirs.available, rel=0.1)


def test_a_file_system_is_as_full_as_psutil_says(host: LinuxHost) -> None:
    for path in ("/", "/dev/shm", "/proc"):
        assert host.disk_usage(path).percent == pytest.approx(psutil.disk_usage(path).percent, abs=1)


def test_mounts_are_those_of_psutil(host: LinuxHost) -> None:
    theirs = [(one.mountpoint, one.fstype) for one in psutil.disk_partitions(all=True)]
    assert [tuple(one) for one in host.disk_partitions()] == theirs


def test_interfaces_and_their_bytes_are_those_of_psutil(host: LinuxHost) -> None:
    ours = host.net_io_counters()
    time.sleep(0.01)
    theirs = psutil.net_io_counters(pernic=True, nowrap=False)
    assert set(ours) == set(theirs)
    for name, one in ours.items():
        assert 0 <= theirs[name].bytes_recv - one.bytes_recv < 1 << 30
        assert 0 <= theirs[name].bytes_sent - one.bytes_sent < 1 << 30
