"""The keys of [source.host], and their checks."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fogmetrics.durations import Seconds
from fogmetrics.settings.reader import Directory, Glob, close_to, key
from shm.errors import ConfigurationError

GROUPS = (
    "cpu", "diskstats", "entropy", "filefd", "filesystem", "hwmon", "loadavg", "meminfo", "netdev", "pressure", "stat",
    "thermal_zone", "time", "uname",
)  # fmt: skip

# node_exporter's default exclusions, as globs.
_MOUNTS = (
    "/dev", "/dev/*", "/proc", "/proc/*", "/sys", "/sys/*", "/run/credentials/*", "/var/lib/docker/*",
    "/var/lib/containers/storage/*",
)  # fmt: skip
_TYPES = (
    "autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts", "devtmpfs", "erofs",
    "fusectl", "hugetlbfs", "iso9660", "mqueue", "nsfs", "overlay", "proc", "procfs", "pstore", "rpc_pipefs",
    "securityfs", "selinuxfs", "squashfs", "sysfs", "tracefs",
)  # fmt: skip
# node_exporter includes these. But if the server is gone, statvfs hangs and no signal ends it.
NETWORK_FILE_SYSTEMS = (
    "nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "afs", "lustre",
)  # fmt: skip
# Partitions, loop devices and RAM disks. Globs can't require digits up to the end; [0-9]* is close.
_DISKS = (
    "ram[0-9]*", "loop[0-9]*", "fd[0-9]*", "hd[a-z][0-9]*", "sd[a-z][0-9]*", "vd[a-z][0-9]*", "xvd[a-z][0-9]*",
    "nvme[0-9]*n[0-9]*p[0-9]*",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HostOptions:
    """[source.host]"""

    groups: tuple[str, ...] = key(GROUPS, "Groups that are read.")
    cadence: Mapping[str, Seconds] = key(
        {}, "Time from one reading of a group to the next; in between, samples are repeated.", low=0, high=86_400
    )
    group_timeout_seconds: Seconds = key(
        1.0, "Time that one group may take; after it, the frame is written without the group.", low=0.01, high=60
    )
    filesystem_exclude_mounts: tuple[Glob, ...] = key(_MOUNTS, "Globs of mount points that are left out.")
    filesystem_exclude_types: tuple[Glob, ...] = key(
        (*_TYPES, *NETWORK_FILE_SYSTEMS), "Globs of file system types that are left out."
    )
    disk_exclude: tuple[Glob, ...] = key(_DISKS, "Globs of block devices that are left out.")
    network_exclude: tuple[Glob, ...] = key((), "Globs of interfaces that are left out.")
    proc: Directory = key("/proc", "Where proc(5) of the host is mounted.")
    sys: Directory = key("/sys", "Where sysfs of the host is mounted.")
    rootfs: Directory = key("/", "Where the root directory of the host is mounted.")
    old_spellings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        mistakes = []
        if not self.groups:
            mistakes.append(
                f"[source.host] groups is empty; give at least one of {', '.join(GROUPS)}, or set enabled to false"
            )
        for key_name, names in (("groups", self.groups), ("cadence", self.cadence)):
            for name in names:
                if name not in GROUPS:
                    close = close_to(name, GROUPS)
                    hint = f"did you mean {close!r}?" if close else f"the groups are {', '.join(GROUPS)}"
                    mistakes.append(f"[source.host] {key_name} names {name!r}, which is not a group; {hint}")
        for name in ("proc", "sys", "rootfs"):
            if not getattr(self, name).startswith("/"):
                mistakes.append(
                    f"[source.host] {name} is {getattr(self, name)!r}; give an absolute path, such as "
                    f"{self.__dataclass_fields__[name].default!r}"
                )
        if mistakes:
            raise ConfigurationError(*mistakes)

    @classmethod
    def modernized(cls, table: Mapping[str, Any]) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """Convert old keys: (the table with present keys, a note for each old one). Raises ConfigurationError."""
        if "cadence_seconds" not in table:
            return table, ()
        found = _cadences(table["cadence_seconds"])
        keys = ", ".join(f"{name} = {seconds:g}" for name, seconds in found.items())
        note = f"[source.host] cadence_seconds is the old spelling; write [source.host.cadence] {keys}"
        rest = {name: value for name, value in table.items() if name != "cadence_seconds"}
        return {"cadence": found, **rest}, (note,)


def _cadences(texts: object) -> dict[str, float]:
    """Parse the old spelling of cadences, ["filesystem=60"]."""
    found: dict[str, float] = {}
    for text in texts if isinstance(texts, list) else [texts]:
        try:
            name, number = str(text).split("=")
            found[name] = float(number)
        except ValueError:
            raise ConfigurationError(
                f"[source.host] cadence_seconds has {text!r}; write [source.host.cadence] filesystem = 60"
            ) from None
    return found


def excluded(globs: Sequence[str]) -> Callable[[str], object]:
    """A test whether a name matches one of the globs. Without globs, the empty expression matches no name."""
    return re.compile("|".join(map(fnmatch.translate, globs))).fullmatch
