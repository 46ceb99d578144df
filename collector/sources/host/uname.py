"""uname: kernel and host names as labels of a constant 1, from uname(2) and /proc/sys/kernel/domainname."""

from __future__ import annotations

import os

from collector.source import Collection, Sample
from collector.sources.host.group import Group, Places, gauge, stateless
from shm.safe_repr import readable, said

_INFO = gauge(
    "node_uname_info",
    "Always 1; what uname(2) says is in the labels.",
    "",
    "domainname", "machine", "nodename", "release", "sysname", "version",
)  # fmt: skip


def labels(uname: os.uname_result, domainname: str) -> dict[str, str]:
    return {
        "domainname": domainname,
        "machine": readable(uname.machine),
        "nodename": readable(uname.nodename),
        "release": readable(uname.release),
        "sysname": readable(uname.sysname),
        "version": readable(uname.version),
    }


def read(places: Places) -> Collection:
    domainname, errors = "", []
    try:
        domainname = places.proc.text("sys/kernel/domainname").strip()
    except OSError as error:
        errors = [said(error)]
    return Collection([Sample(_INFO.name, 1, labels(os.uname(), domainname))], errors)


GROUP = Group("uname", (_INFO,), stateless(read))
