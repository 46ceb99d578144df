"""Hosts as files: what /proc, /sys and the list of mount points of some real and some odd machines hold."""
# ruff: noqa: E501 - lines as kernels write them

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from collector.sources.host.options import HostOptions

# Those that read nothing but files below the options' places.
_GROUPS = (
    "cpu", "diskstats", "entropy", "filefd", "filesystem", "hwmon", "loadavg", "meminfo", "netdev", "pressure", "stat",
    "thermal_zone",
)  # fmt: skip


@dataclass(frozen=True)
class Host:
    """``families`` are some that this host is here for."""

    proc: Mapping[str, str]
    sys: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    directories: tuple[str, ...] = ()
    families: frozenset[str] = frozenset()


_STAT = """\
cpu  10132153 290696 3084719 46828483 16683 0 25195 0 175628 0
cpu0 5066076 145348 1542359 23414241 8341 0 12597 0 87814 0
cpu1 5066077 145348 1542360 23414242 8342 0 12598 11 87814 7
intr 8163102 0 9 0 33
ctxt 17763937
btime 1795795621
processes 93834
procs_running 2
procs_blocked 1
softirq 5057579 250191 1481983 1647 211099 186066 0 1783454 622196 12499 508444
"""
_MEMINFO = """\
MemTotal:        3742148 kB
MemFree:          225472 kB
Buffers:           22040 kB
Cached:           930888 kB
Active(anon):    2068484 kB
Inactive(file):   165792 kB
Committed_AS:    5298172 kB
HugePages_Total:      17
Hugepagesize:       2048 kB
DirectMap4k:      159744 kB
"""
_DISKSTATS = """\
   8       0 sda 430863 42132 20183250 353088 49595 204493 14142456 47468 3 88700 412223 122827 74 10787856 11155 4938 511
   8       1 sda1 430000 42132 20183250 353088 49595 204493 14142456 47468 0 88700 412223 122827 74 10787856 11155 0 0
   7       0 loop0 1 0 2 0 0 0 0 0 0 4 4 0 0 0 0 0 0
 259       0 nvme0n1 47114 4 4643973 21650 1078320 43950 39451633 1011053 0 222766 1032546
 259       1 nvme0n1p1 1140 0 9370 16 1 0 1 0 0 16 16
 179       0 mmcblk0 192 3 1560 156 0 0 0 0 0 136 156 1 2 3 4
  11       0 sr0 0 0 0 0 0 0 0 0 0 0 0
"""
_NETDEV = """\
Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 44190714801 4081748    0    0    0     0          0         0 44190714801 4081748    0    0    0     0       0          0
  eth0: 18446744073709551615   37985    1    2    3     4          5         6  2173959   20293    7    8    9     10       11          12
enp2s0.5:1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16
"""
_MOUNTS = r"""/dev/sda1 / ext4 rw,relatime 0 0
proc /proc proc rw,relatime 0 0
tmpfs /dev/shm tmpfs rw 0 0
/dev/sdb1 /srv/my\040disk xfs ro,relatime 0 0
/dev/sdb1 /srv/my\040disk xfs ro,relatime 0 0
/dev/sdc1 /gone ext4 rw,errors=remount-ro 0 0
server:/home /home nfs4 rw,relatime 0 0
overlay /var/lib/docker/overlay2/1/merged overlay rw 0 0
"""
_PSI = "some avg10=0.00 avg60=0.12 avg300=0.48 total=25391777\nfull avg10=0.00 avg60=0.10 avg300=0.40 total=21507619\n"

HOSTS: Mapping[str, Host] = {
    "server": Host(
        proc={
            "stat": _STAT,
            "meminfo": _MEMINFO,
            "diskstats": _DISKSTATS,
            "net/dev": _NETDEV,
            "1/mounts": _MOUNTS,
            "loadavg": "1.01 0.78 0.61 2/134 93834\n",
            "sys/fs/file-nr": "1134\t0\t9223372036854775807\n",
            "sys/kernel/random/entropy_avail": "256\n",
            "sys/kernel/random/poolsize": "256\n",
            "pressure/cpu": _PSI,
            "pressure/io": _PSI,
            "pressure/memory": _PSI,
        },
        sys={
            "class/thermal/thermal_zone0/type": "x86_pkg_temp\n",
            "class/thermal/thermal_zone0/temp": "49925\n",
            "class/thermal/thermal_zone0/policy": "step_wise\n",
            "class/thermal/thermal_zone12/type": "acpitz\n",
            "class/thermal/thermal_zone12/temp": "-2500\n",
            "class/thermal/thermal_zone12/policy": "step_wise\n",
            "class/thermal/cooling_device0/type": "Processor\n",
            "class/thermal/cooling_device0/cur_state": "0\n",
            "class/thermal/cooling_device0/max_state": "7\n",
            "devices/platform/coretemp.0/hwmon/hwmon0/name": "coretemp\n",
            "devices/platform/coretemp.0/hwmon/hwmon0/temp1_input": "49000\n",
            "devices/platform/coretemp.0/hwmon/hwmon0/temp1_label": "Package id 0\n",
            "devices/platform/coretemp.0/hwmon/hwmon0/temp2_input": "47500\n",
            "devices/pci0000:00/0000:01:00.0/nvme/nvme0/hwmon1/name": "nvme\n",
            "devices/pci0000:00/0000:01:00.0/nvme/nvme0/hwmon1/temp1_input": "38850\n",
            "devices/pci0000:00/0000:01:00.0/nvme/nvme0/hwmon1/temp1_label": "Composite\n",
            "devices/virtual/hwmon/hwmon2/name": "acpitz\n",
            "devices/virtual/hwmon/hwmon2/temp1_input": "27800\n",
        },
        links={
            "class/hwmon/hwmon0": "../../devices/platform/coretemp.0/hwmon/hwmon0",
            "devices/platform/coretemp.0/hwmon/hwmon0/device": "../../../coretemp.0",
            "class/hwmon/hwmon1": "../../devices/pci0000:00/0000:01:00.0/nvme/nvme0/hwmon1",
            "devices/pci0000:00/0000:01:00.0/nvme/nvme0/hwmon1/device": "../../nvme0",
            "class/hwmon/hwmon2": "../../devices/virtual/hwmon/hwmon2",
        },
        directories=("srv/my disk", "home"),
        families=frozenset(
            {
                "node_hwmon_temp_celsius",
                "node_hwmon_chip_names",
                "node_hwmon_sensor_label",
                "node_thermal_zone_temp",
                "node_cooling_device_cur_state",
                "node_disk_flush_requests",
                "node_filesystem_device_error",
                "node_pressure_io_stalled_seconds",
            }
        ),
    ),
    "old kernel, in a container": Host(
        proc={
            "stat": "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\nintr 1\nctxt 2\nbtime 3\nprocesses 4\nprocs_running 1\n"
            "procs_blocked 0\n",
            "meminfo": "MemTotal:  1 kB\nHighTotal: 0 kB\nNotOfOurList: 3 kB\n",
            "diskstats": "   8       0 hda 1 2 3 4 5 6 7 8 9 10 11\n",
            "net/dev": "\n".join(_NETDEV.split("\n")[:2]) + "\n",
            "self/mounts": "rootfs / rootfs rw 0 0\n",
            "mounts": "rootfs / rootfs rw 0 0\n",  # a link to it, in proc(5)
            "loadavg": "0.00 0.00 12.25 1/1 1\n",
            "sys/fs/file-nr": "0\t0\t1\n",
            "sys/kernel/random/entropy_avail": "3\n",
            "sys/kernel/random/poolsize": "4096\n",
        },
        families=frozenset({"node_cpu_seconds", "node_memory_HighTotal_bytes", "node_filesystem_size_bytes"}),
    ),
}


def write(name: str, directory: Path) -> HostOptions:
    """Make the host's files below ``directory``; the options that read them."""
    host = HOSTS[name]
    for place, files in (("proc", host.proc), ("sys", host.sys)):
        (directory / place).mkdir()
        for path, text in files.items():
            target = directory / place / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    for path, target_path in host.links.items():
        link = directory / "sys" / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(target_path)
    for path in ("", *host.directories):
        (directory / "root" / path).mkdir(parents=True, exist_ok=True)
    return HostOptions(
        groups=_GROUPS,
        proc=str(directory / "proc"),
        sys=str(directory / "sys"),
        rootfs=str(directory / "root"),
    )
