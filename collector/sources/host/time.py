"""time: the host's clock, and the offset of its time zone from UTC."""

from __future__ import annotations

import time

from collector.source import Collection, Sample
from collector.sources.host.group import Group, Places, gauge, stateless

_SECONDS = gauge("node_time_seconds", "The host's clock, in Unix seconds.", "seconds")
_OFFSET = gauge("node_time_zone_offset_seconds", "Local time less UTC, in seconds.", "seconds", "time_zone")


def read(_places: Places) -> Collection:
    now = time.time()
    local = time.localtime(now)
    return Collection([Sample(_SECONDS.name, now), Sample(_OFFSET.name, local.tm_gmtoff, {"time_zone": local.tm_zone})])


GROUP = Group("time", (_SECONDS, _OFFSET), stateless(read))
