"""filefd: open files of the whole host, from /proc/sys/fs/file-nr: ``1134	0	2466170`` (in use, free, maximum)."""

from __future__ import annotations

from collector.source import Collection, Sample
from collector.sources.host.group import Group, Places, gauge, stateless

_ALLOCATED = gauge("node_filefd_allocated", "Open files of all processes together, in files.", "files")
_MAXIMUM = gauge("node_filefd_maximum", "Open files that all processes together may have, in files.", "files")


def allocated_and_maximum(line: str) -> tuple[int, int]:
    allocated, _free, maximum = line.split()
    return int(allocated), int(maximum)


def read(places: Places) -> Collection:
    found, errors = places.proc.lines("sys/fs/file-nr", allocated_and_maximum)
    samples = []
    for allocated, maximum in found:
        samples += [Sample(_ALLOCATED.name, allocated), Sample(_MAXIMUM.name, maximum)]
    return Collection(samples, errors)


GROUP = Group("filefd", (_ALLOCATED, _MAXIMUM), stateless(read))
