r"""filesystem: space and files of each mounted file system, by statvfs(3) of the mount points in /proc/1/mounts.

    /dev/sda1 /mnt/my\040disk ext4 rw,relatime 0 0        device, mount point, type, options

The mount points are those of process 1, the host's, also if the collector runs in a container; the host's files are
then below ``rootfs``, which the label omits. statvfs answers for the mount on top of a mount point, which is its last
line: others, such as what a read-only bind mount or another file system covers, are left out. So are mount points
below one that was covered later: their paths lead into the mount on top. /proc/1/mountinfo says which mount is on
which.

    29 23 8:1 / /mnt/data rw,relatime - ext4 /dev/sda1 rw   number, number of the mount below, …, …, mount point

A path may be any bytes: they are asked for as the kernel has them, and what is not UTF-8 is U+FFFD in labels.

statvfs of a file system whose server is gone hangs, and no signal ends it. So each call has a timeout, and a file
system that does not answer has ``node_filesystem_device_error`` 1 and no other samples, as in node_exporter.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from collector.loop.timeouts import CallPool
from collector.source import Collection, Sample
from collector.sources.host.files import each_line
from collector.sources.host.group import Group, Places, Read, gauge
from collector.sources.host.options import HostOptions, excluded
from shm.safe_repr import readable

_LABELS = ("device", "fstype", "mountpoint")
_SIZE = gauge("node_filesystem_size_bytes", "Space of the file system, in bytes.", "bytes", *_LABELS)
_FREE = gauge("node_filesystem_free_bytes", "Space that is not used, in bytes.", "bytes", *_LABELS)
_AVAIL = gauge("node_filesystem_avail_bytes", "Space that users other than root can have.", "bytes", *_LABELS)
_FILES = gauge("node_filesystem_files", "Files that the file system can hold, in files.", "files", *_LABELS)
_FILES_FREE = gauge("node_filesystem_files_free", "Files that can still be made, in files.", "files", *_LABELS)
_READONLY = gauge("node_filesystem_readonly", "1 where nothing can be written, else 0.", "", *_LABELS)
_ERROR = gauge("node_filesystem_device_error", "1 where statvfs failed or hangs, else 0.", "", *_LABELS)
METRICS = (_SIZE, _FREE, _AVAIL, _FILES, _FILES_FREE, _READONLY, _ERROR)

# getmntent(3): white space and backslashes are written in octal. Decode the backslash last.
_OCTAL = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))

# Options of the mount or of the file system; the second is ext4's, after an error.
_READ_ONLY = frozenset({"ro", "emergency_ro"})

# Share of the group's timeout for statvfs; the rest is for reading the list, and for calls after one that hangs.
_SHARE = 0.8


class Mount(NamedTuple):
    """``mountpoint`` is the path to ask, see os.fsdecode(); the others are text."""

    device: str
    mountpoint: str
    fstype: str
    readonly: bool


class Space(NamedTuple):
    """The result of statvfs(3), in bytes and files."""

    size: int
    free: int
    avail: int
    files: int
    files_free: int


def mounts(path: str, text: str) -> tuple[list[Mount], list[str]]:
    """(the mount on top of each mount point, an error for each line that can't be read)."""
    found, errors = each_line(path, text, _mount)
    return list({mount.mountpoint: mount for mount in found}.values()), errors


def _mount(line: str) -> Mount:
    device, mountpoint, fstype, options, *_ = line.split(" ")
    return Mount(
        readable(device), _decoded(mountpoint), readable(fstype), not _READ_ONLY.isdisjoint(options.split(","))
    )


def _decoded(mountpoint: str) -> str:
    if "\\" in mountpoint:
        for octal, character in _OCTAL:
            mountpoint = mountpoint.replace(octal, character)
    return mountpoint


def hidden(path: str, text: str) -> tuple[set[str], list[str]]:
    """(mount points whose paths lead to another mount, an error for each line of mountinfo that can't be read)."""
    found, errors = each_line(path, text, _placed)
    below = {number: (parent, point) for number, parent, point in found}
    covers = {*below.values()}

    def reached(number: str) -> bool:
        for _ in below:  # at most as many steps
            parent, point = below[number]
            if parent not in below or parent == number:  # the root
                break
            if any((parent, above) in covers for above in _above(point)):
                return False
            number = parent
        return True

    return {point for _, point in below.values()} - {below[number][1] for number in below if reached(number)}, errors


def _placed(line: str) -> tuple[str, str, str]:
    number, parent, _device, _root, mountpoint, *_ = line.split(" ")
    return number, parent, _decoded(mountpoint)


def _above(path: str) -> Iterator[str]:
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


def below(rootfs: str, found: list[Mount]) -> list[Mount]:
    """The host's mounts, without the prefix ``rootfs``.

    If the list contains ``rootfs`` itself, it was read in a container: only mounts below it are the host's.
    """
    prefix = rootfs.rstrip("/")
    if not prefix or not any(mount.mountpoint == prefix for mount in found):
        return found
    return [
        mount._replace(mountpoint=mount.mountpoint.removeprefix(prefix) or "/")
        for mount in found
        if mount.mountpoint == prefix or mount.mountpoint.startswith(prefix + "/")
    ]


def space(path: str) -> Space:
    found = os.statvfs(path)
    unit = found.f_frsize
    return Space(found.f_blocks * unit, found.f_bfree * unit, found.f_bavail * unit, found.f_files, found.f_ffree)


def reader(places: Places, options: HostOptions, ask: Callable[[str], Space] = space) -> Read:
    no_mount = excluded(options.filesystem_exclude_mounts)
    no_type = excluded(options.filesystem_exclude_types)
    rootfs = options.rootfs.rstrip("/")
    calls: CallPool[Space] = CallPool("statvfs of")

    def read() -> Collection:
        table, info = _tables(places)
        (all_mounts, errors), (covered, wrong) = mounts(*table), hidden(*info)
        errors += wrong
        wanted = [
            mount
            for mount in below(rootfs, [mount for mount in all_mounts if mount.mountpoint not in covered])
            if not (no_type(mount.fstype) or no_mount(readable(mount.mountpoint)))
        ]
        jobs = {mount.mountpoint: partial(ask, f"{rootfs}{mount.mountpoint}") for mount in wanted}
        found = calls.call(jobs, options.group_timeout_seconds * _SHARE)
        samples: list[Sample] = []
        for mount in wanted:
            answer = found[mount.mountpoint]
            samples += _samples(mount, answer)
            # A mount without permission, such as another user's FUSE, stays so; its error metric is enough.
            if isinstance(answer, Exception) and not isinstance(answer, PermissionError):
                reason = answer.strerror if isinstance(answer, OSError) else answer
                errors.append(readable(f"{mount.mountpoint}: {reason}"))
        return Collection(samples, errors)

    return read


def _tables(places: Places) -> tuple[tuple[str, str], tuple[str, str]]:
    """(path, text) of process 1's mounts and mountinfo, or of this process's if they can't be read (proc(5), hidepid).

    Without mountinfo, no mount point is known to be hidden.
    """
    try:
        process, content = "1", places.proc.content("1/mounts")
    except OSError:
        process, content = "self", places.proc.content("self/mounts")
    info = b""
    with contextlib.suppress(OSError):
        info = places.proc.content(f"{process}/mountinfo")
    path = places.proc.path(process)
    return (f"{path}/mounts", os.fsdecode(content)), (f"{path}/mountinfo", os.fsdecode(info))


def _samples(mount: Mount, answer: Space | Exception) -> list[Sample]:
    labels = {"device": mount.device, "fstype": mount.fstype, "mountpoint": readable(mount.mountpoint)}
    if isinstance(answer, Exception):
        return [Sample(_ERROR.name, 1, labels)]
    values = (*answer, int(mount.readonly), 0)
    return [Sample(metric.name, value, labels) for metric, value in zip(METRICS, values, strict=True)]


GROUP = Group("filesystem", METRICS, reader)
