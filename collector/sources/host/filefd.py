"""filefd: open files of the whole host, from /proc/sys/fs/file-nr: ``1134	0	2466170`` (in use, free, maximum)."""

from __future__ import annotations

from collector.source import Sample
from collector.sources.host.group import Group, Places, gauge, stateless

_ALLOCATED = gauge("node_filefd_allocated", "Open files of all processes together, in files.", "files")
_MAXIMUM = gauge("node_filefd_maximum", "Open files that all processes together may have, in files.", "files")


def allocated_and_maximum(text: str) -> tuple[int, int]:
    allocated, _free, maximum = text.split()
    return int(allocated), int(maximum)


def read(places: Places) -> list[Sample]:
    allocated, maximum = allocated_and_maximum(places.proc.text("sys/fs/file-nr"))
    return [Sample(_ALLOCATED.name, allocated), Sample(_MAXIMUM.name, maximum)]


GROUP = Group("filefd", (_ALLOCATED, _MAXIMUM), stateless(read))
