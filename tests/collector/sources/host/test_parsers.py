"""The parsers, on text as kernels write it and as they might."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from collector.source import Sample
from collector.sources.host import (
    cpu,
    diskstats,
    entropy,
    filefd,
    hwmon,
    loadavg,
    meminfo,
    netdev,
    pressure,
    stat,
    thermal_zone,
    uname,
)
from collector.sources.host import time as clock
from collector.sources.host.files import Files, each_line
from collector.sources.host.group import Group, Places
from collector.sources.host.options import HostOptions
from collector.sources.node.source import NodeMetricSource


def write(directory: Path, **files: str) -> Places:
    for path, text in files.items():
        target = directory / path.replace("__", "/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return Places(Files(str(directory)), Files(str(directory)))


def read(group: Group, places: Places, options: HostOptions | None = None) -> Sequence[Sample]:
    reading = group.reader(places, options or HostOptions())()
    assert not reading.errors
    return reading.samples


def test_cpu_seconds_are_by_processor_and_an_old_kernel_has_fewer_modes() -> None:
    text = "cpu  3 0 0 9\ncpu0 100 2 3 400 5 6 7 8 9 10\ncpu11 1 2 3 4\nintr 5 cpu7\n"
    found, _ = each_line("stat", text, lambda line: cpu.seconds(line, 100))
    assert found == [
        ("0", [1.0, 0.02, 0.03, 4.0, 0.05, 0.06, 0.07, 0.08, 0.09, 0.1]),
        ("11", [0.01, 0.02, 0.03, 0.04]),
    ]


def test_cpu_seconds_never_fall_unless_the_processor_began_anew(tmp_path: Path) -> None:
    def line(*fields: int) -> str:
        return "cpu  1\ncpu0 " + " ".join(map(str, fields)) + " 0 0 0 0 0 0\n"

    places = write(tmp_path, stat=line(500, 0, 0, 1000))
    group = cpu.GROUP.reader(places, HostOptions())

    def seconds(text: str) -> dict[str, float | None]:
        (tmp_path / "stat").write_text(text)
        return {one.labels["mode"]: one.value for one in group().samples if one.metric == "node_cpu_seconds_total"}

    assert seconds(line(500, 0, 0, 1000))["idle"] == 10
    inaccurate = seconds(line(510, 0, 0, 990))
    assert (inaccurate["idle"], inaccurate["user"]) == (10, 5.1)
    anew = seconds(line(1, 0, 0, 2))
    assert (anew["idle"], anew["user"]) == (0.02, 0.01)


def test_stat_has_the_sum_of_the_interrupts_and_no_line_that_it_does_not_know(tmp_path: Path) -> None:
    text = (
        "cpu  1 2\nintr 8163102 0 9 33\nctxt 17\nbtime 1795795621\nprocesses 9\nprocs_running 2\nnew 3\nsoftirq 5 1\n"
    )
    assert [(one.metric, one.value) for one in read(stat.GROUP, write(tmp_path, stat=text))] == [
        ("node_intr_total", 8163102), ("node_context_switches_total", 17), ("node_boot_time_seconds", 1795795621),
        ("node_forks_total", 9), ("node_procs_running", 2),
    ]  # fmt: skip


def test_meminfo_is_in_bytes_where_it_has_a_unit_and_a_count_where_not(tmp_path: Path) -> None:
    text = "MemTotal:       2 kB\nHugePages_Total:      17\nActive(anon):    3 kB\nSomethingNew:  4 kB\n"
    found = {one.metric: one.value for one in read(meminfo.GROUP, write(tmp_path, meminfo=text))}
    assert found == {
        "node_memory_MemTotal_bytes": 2048,
        "node_memory_HugePages_Total": 17,
        "node_memory_Active_anon_bytes": 3072,
    }


def test_this_kernels_meminfo_has_no_line_that_is_left_out() -> None:
    known = {metric.name for metric in meminfo.GROUP.metrics}
    found = read(meminfo.GROUP, Places(Files("/proc"), Files("/sys")))
    assert len(found) == len(Path("/proc/meminfo").read_text().splitlines())
    assert {one.metric for one in found} <= known


def test_diskstats_leaves_out_partitions_and_takes_as_many_fields_as_the_kernel_has(tmp_path: Path) -> None:
    fields = "1 2 3 4 5 6 7 8 9 10 11"
    names = ("sda", "sda1", "sdaa", "sdaa2", "vda15", "nvme0n1", "nvme0n1p2", "loop3", "ram0", "dm-0", "md127", "fd0")
    text = "".join(f"   8       0 {name} {fields}\n" for name in names) + "\n"
    found = read(diskstats.GROUP, write(tmp_path, diskstats=text))
    assert {one.labels["device"] for one in found} == {"sda", "sdaa2", "sdaa", "nvme0n1", "dm-0", "md127"}
    of_sda = {one.metric: one.value for one in found if one.labels["device"] == "sda"}
    assert len(of_sda) == 11
    assert of_sda["node_disk_read_bytes_total"] == 3 * 512
    assert of_sda["node_disk_io_time_seconds_total"] == pytest.approx(0.010)
    assert "node_disk_discards_completed_total" not in of_sda
    own = HostOptions(disk_exclude=("dm-*",))
    assert "dm-0" not in {one.labels["device"] for one in read(diskstats.GROUP, write(tmp_path, diskstats=text), own)}


def test_netdev_has_sixteen_counts_of_each_interface_that_is_not_left_out(tmp_path: Path) -> None:
    text = (
        "Inter-| Receive | Transmit\n face |bytes |bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\neth0:1:"
        + (" 18446744073709551615" + " 0" * 15 + "\n")
    )
    places = write(tmp_path, net__dev=text)
    found = read(netdev.GROUP, places)
    assert [one.value for one in found if one.labels["device"] == "lo"] == list(range(1, 17))
    assert found[16].labels == {"device": "eth0:1"}
    assert found[16].value == 18446744073709551615
    assert {one.labels["device"] for one in read(netdev.GROUP, places, HostOptions(network_exclude=("l*",)))} == {
        "eth0:1"
    }
    assert not read(netdev.GROUP, write(tmp_path / "none", net__dev="Inter-|\n face |\n"))


def test_pressure_is_in_seconds_and_absent_where_the_kernel_has_none(tmp_path: Path) -> None:
    text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=2500000\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n"
    found = read(pressure.GROUP, write(tmp_path, pressure__cpu=text, pressure__irq=text))
    assert {one.metric: one.value for one in found} == {
        "node_pressure_cpu_waiting_seconds_total": 2.5,
        "node_pressure_irq_stalled_seconds_total": 7e-6,
    }
    assert not read(pressure.GROUP, write(tmp_path / "none", stat=""))


def test_loadavg_filefd_and_entropy_are_plain_numbers(tmp_path: Path) -> None:
    assert loadavg.loads("1.01 0.78 0.61 2/134 93834\n") == (1.01, 0.78, 0.61)
    assert filefd.allocated_and_maximum("1134\t0\t9223372036854775807\n") == (1134, 9223372036854775807)
    places = write(tmp_path, sys__kernel__random__entropy_avail="256\n", sys__kernel__random__poolsize="4096\n")
    assert [one.value for one in read(entropy.GROUP, places)] == [256, 4096]


def test_time_is_unix_seconds_and_the_zones_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    try:
        now, offset = read(clock.GROUP, write(tmp_path))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert now.value == pytest.approx(time.time(), abs=30)
    assert (offset.value, offset.labels) == (19800, {"time_zone": "XYZ"})


def test_a_host_name_that_is_not_utf8_is_shown_with_a_replacement_character(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = os.uname_result(("Linux", os.fsdecode(b"caf\xe9"), "6.18", "#1", "x86_64"))
    monkeypatch.setattr(os, "uname", lambda: named)
    [info] = read(uname.GROUP, write(tmp_path, sys__kernel__domainname="(none)\n"))
    assert info.labels["nodename"] == NodeMetricSource().node_id == "caf\ufffd"


def test_a_sensor_that_does_not_answer_is_absent_and_so_are_all_where_there_are_none(tmp_path: Path) -> None:
    assert not read(thermal_zone.GROUP, write(tmp_path))
    assert not read(hwmon.GROUP, write(tmp_path))
    places = write(
        tmp_path,
        class__thermal__thermal_zone0__type="acpitz",
        class__thermal__thermal_zone0__temp="",
        class__thermal__thermal_zone1__type="odd",
        class__thermal__thermal_zone1__temp="\n",
        class__thermal__thermal_zone2__type="cpu",
        class__thermal__thermal_zone2__temp="-500\n",
        class__hwmon__hwmon0__temp1_input="",
        class__hwmon__hwmon0__temp2_input="41000\n",
    )
    [zone] = read(thermal_zone.GROUP, places)
    assert (zone.value, zone.labels) == (-0.5, {"zone": "2", "type": "cpu"})
    [sensor] = read(hwmon.GROUP, places)
    assert (sensor.value, sensor.labels) == (41.0, {"chip": "hwmon0", "sensor": "temp2"})


def test_a_chip_is_called_by_its_place_else_its_name_else_its_number() -> None:
    assert hwmon.chip_of("/sys/devices/platform/coretemp.0", "coretemp", "/sys/x/hwmon0") == "platform_coretemp_0"
    assert hwmon.chip_of("/…/coretemp.0", None, "/sys/x/hwmon0") == "coretemp_0"
    assert hwmon.chip_of(None, "Ac-Pitz\n", "/sys/x/hwmon0") == "ac_pitz"
    assert hwmon.chip_of(None, None, "/sys/x/hwmon7") == "hwmon7"


_DISK = "8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n"
_HUGE = "9" * 309  # no float64 holds it
_NET = "Inter-|\n face |\n  eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n"


@pytest.mark.parametrize(
    ("group", "file", "good", "odd"),
    [
        (meminfo.GROUP, "meminfo", "MemTotal: 2 kB\n", ("HugePages_Rsvd:", "MemFree: x kB", "MemFree: 1 MB")),
        (cpu.GROUP, "stat", "cpu 1 2 3 4\ncpu0 1 2 3 4\n", ("cpu1", "cpu1 1 2 3", "cpu1 1 2 x 4")),
        (stat.GROUP, "stat", "ctxt 17\n", ("btime ", "btime soon", "intr x 1 2")),
        (diskstats.GROUP, "diskstats", _DISK, (
            "8", "8 16 sdb", "8 16 sdb 1 2 3 4", "8 16 sdb 1 2 3 4 5 6 7 8 9 10 x",
            f"8 16 sdb {_HUGE} 2 3 4 5 6 7 8 9 10 11",
        )),
        (netdev.GROUP, "net/dev", _NET, ("eth1", "eth1: 1 2 3", "eth1: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 x")),
        (pressure.GROUP, "pressure/cpu", "some total=7\n", ("full", "full total=many", f"full total={_HUGE}")),
        (loadavg.GROUP, "loadavg", "1 2 3 1/2 3\n", ("1.0 2.0", "a b c 1/2 3")),
        (filefd.GROUP, "sys/fs/file-nr", "1 0 2\n", ("1", "1 x", "1 0 many", "1 2 3 4")),
        (entropy.GROUP, "sys/kernel/random/poolsize", "256\n", ("many", "2 56")),
        (thermal_zone.GROUP, "class/thermal/thermal_zone0/temp", "41000\n", ("hot", _HUGE)),
        (thermal_zone.GROUP, "class/thermal/cooling_device0/cur_state", "1\n", ("full",)),
        (hwmon.GROUP, "class/hwmon/hwmon0/temp1_input", "41000\n", ("hot",)),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_read_is_left_out_with_an_error_that_names_file_and_line(
    tmp_path: Path, group: Group, file: str, good: str, odd: Sequence[str]
) -> None:
    if group is entropy.GROUP:
        write(tmp_path, sys__kernel__random__entropy_avail="1\n")
    name = file.replace("/", "__")
    whole = read(group, write(tmp_path, **{name: good}))
    assert whole
    *head, last = good.splitlines(keepends=True)
    for line in odd:
        text = "".join([*head, f"{line}\n", last])
        reading = group.reader(write(tmp_path, **{name: text}), HostOptions())()
        assert reading.samples == whole, line
        [error] = reading.errors
        assert error.startswith(f"line {len(head) + 1} of {tmp_path}/{file} is {line[:70]!r}"[:-1])
        assert "which can't be read" in error


def test_a_file_that_cannot_be_read_costs_the_group_its_own_samples_alone(tmp_path: Path) -> None:
    (tmp_path / "pressure/io").mkdir(parents=True)  # reading it is an error
    for group, files in (
        (uname.GROUP, {}),  # there is no domainname
        (hwmon.GROUP, {"class__hwmon__hwmon0__device": "not a directory", "class__hwmon__hwmon1__temp1_input": "1\n"}),
        (pressure.GROUP, {"pressure__cpu": "some total=7\n"}),
        (entropy.GROUP, {"sys__kernel__random__poolsize": "256\n"}),
    ):
        reading = group.reader(write(tmp_path, **files), HostOptions())()
        assert len(reading.samples) == len(reading.errors) == 1


def test_an_odd_line_of_a_device_that_is_left_out_is_no_error(tmp_path: Path) -> None:
    places = write(tmp_path, diskstats=f"{_DISK}7 0 loop0\n", net__dev=f"{_NET}veth1: 1\n")
    assert len(read(diskstats.GROUP, places)) == 11
    assert len(read(netdev.GROUP, places, HostOptions(network_exclude=("veth*",)))) == 16


def test_a_line_that_is_there_twice_gives_its_series_twice(tmp_path: Path) -> None:
    """So that the frame can refuse the second, and say so."""
    places = write(tmp_path, stat="cpu0 1 2 3 4\n" * 2, diskstats=_DISK * 2, meminfo="MemFree: 1 kB\n" * 2)
    for group, count in ((cpu.GROUP, 8), (diskstats.GROUP, 22), (meminfo.GROUP, 2)):
        assert len(read(group, places)) == count


def hwmons(directory: Path, *chips: tuple[str, str, str]) -> Places:
    """(entry, device below sys/devices, name) of each chip; the number of an entry is the temperature of its temp1."""
    for entry, device, name in chips:
        own = directory / "devices" / device / "hwmon" / entry
        own.mkdir(parents=True)
        (own / "device").symlink_to("../..")
        (own / "temp1_input").write_text(f"{entry.removeprefix('hwmon')}000\n")
        if name:
            (own / "name").write_text(f"{name}\n")
        (directory / "class/hwmon").mkdir(parents=True, exist_ok=True)
        (directory / "class/hwmon" / entry).symlink_to(own)
    return Places(Files(str(directory)), Files(str(directory)))


@pytest.mark.parametrize(
    ("names", "chips"),
    [
        (("asus", "asus_wmi_sensors"), ("platform_wmi_asus", "platform_wmi_asus_wmi_sensors")),
        (("asus", "asus"), ("platform_wmi_hwmon41", "platform_wmi_hwmon87")),
        (("temp-1", "temp_1"), ("platform_wmi_hwmon41", "platform_wmi_hwmon87")),
        (("asus", ""), ("platform_wmi_asus", "platform_wmi_hwmon87")),
    ],
)
def test_chips_that_share_a_device_have_their_names_appended_else_their_numbers(
    tmp_path: Path, names: tuple[str, str], chips: tuple[str, str]
) -> None:
    places = hwmons(
        tmp_path,
        ("hwmon41", "platform/wmi", names[0]),
        ("hwmon50", "platform/coretemp.0", "coretemp"),
        ("hwmon87", "platform/wmi", names[1]),
    )
    found = read(hwmon.GROUP, places)
    assert [(one.labels["chip"], one.value) for one in found if one.metric == "node_hwmon_temp_celsius"] == [
        (chips[0], 41.0),
        ("platform_coretemp_0", 50.0),
        (chips[1], 87.0),
    ]
    named = {one.labels["chip"]: one.labels["chip_name"] for one in found if one.metric == "node_hwmon_chip_names"}
    assert list(named) == [chip for chip in (chips[0], "platform_coretemp_0", chips[1]) if named.get(chip)]


def test_a_sensor_that_a_driver_has_in_both_places_is_read_at_the_device(tmp_path: Path) -> None:
    places = hwmons(tmp_path, ("hwmon41", "platform/old.0", "old"))
    (tmp_path / "devices/platform/old.0/temp1_input").write_text("7000\n")
    [_, temperature] = read(hwmon.GROUP, places)
    assert temperature.value == 7.0
