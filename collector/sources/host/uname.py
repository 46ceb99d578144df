"""uname: kernel and host names as labels of a constant 1, from uname(2) and /proc/sys/kernel/domainname."""

from __future__ import annotations

import os

from collector.source import Sample
from collector.sources.host.group import Group, Places, Read, Reading, gauge
from collector.sources.host.options import HostOptions

_INFO = gauge(
    "node_uname_info",
    "Always 1; what uname(2) says is in the labels.",
    "",
    "domainname", "machine", "nodename", "release", "sysname", "version",
)  # fmt: skip


def labels(uname: os.uname_result, domainname: str) -> dict[str, str]:
    return {
        "domainname": domainname,
        "machine": uname.machine,
        "nodename": uname.nodename,
        "release": uname.release,
        "sysname": uname.sysname,
        "version": uname.version,
    }


def reader(places: Places, _options: HostOptions) -> Read:
    def read() -> Reading:
        domainname = places.proc.text("sys/kernel/domainname").strip()
        return Reading([Sample(_INFO.name, 1, labels(os.uname(), domainname))])

    return read


GROUP = Group("uname", (_INFO,), reader)
