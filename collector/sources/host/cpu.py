"""cpu: seconds that each processor spent in each mode, from /proc/stat.

cpu  10132153 290696 3084719 46828483 16683 0 25195 0 175628 0
cpu0 5066076 145348 1542359 23414241 8341 0 12597 0 87814 0        ticks of USER_HZ, https://docs.kernel.org/filesystems/proc.html
"""

from __future__ import annotations

import os

from collector.source import Collection, Sample
from collector.sources.host.group import Group, Places, Read, counter
from collector.sources.host.options import HostOptions

_SECONDS = "node_cpu_seconds_total"
_GUEST = "node_cpu_guest_seconds_total"
# In the order of a line. Guest time is included in user and nice.
_MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
_GUEST_MODES = ("user", "nice")
# If idle time falls by more than this, it was reset: the processor was taken offline and back. A smaller fall is an
# inaccuracy of the kernel, which Prometheus would take for a reset (node_exporter has the same threshold).
_IDLE_RESET_SECONDS = 3.0

METRICS = (
    counter(_SECONDS, "Time that each processor spent in each mode, in seconds.", "seconds", "cpu", "mode"),
    counter(_GUEST, "Time that each processor ran guests, which is in user and nice, too.", "seconds", "cpu", "mode"),
)


def seconds(line: str, ticks_per_second: int) -> tuple[str, list[float]] | None:
    """(number of the processor, its fields in seconds); None for other lines. Raises ValueError."""
    if not line.startswith("cpu"):
        return None
    name, *fields = line.split()
    if name == "cpu":
        return None
    _user, _nice, _system, _idle, *_ = fields  # every kernel has these
    return name[3:], [int(field) / ticks_per_second for field in fields]


def rising(before: list[float], now: list[float]) -> list[float]:
    """``now``, but with the value from ``before`` for counters that fell a little; ``now`` if they were reset."""
    idle = _MODES.index("idle")
    if len(before) != len(now) or now[idle] + _IDLE_RESET_SECONDS < before[idle]:
        return now
    return [max(pair) for pair in zip(before, now, strict=True)]


def reader(places: Places, _options: HostOptions) -> Read:
    ticks = os.sysconf("SC_CLK_TCK")
    before: dict[str, list[float]] = {}
    labels: dict[str, list[tuple[str, dict[str, str]]]] = {}

    def read() -> Collection:
        nonlocal before
        samples = []
        found, errors = places.proc.lines("stat", lambda line: seconds(line, ticks))
        found = [(cpu, rising(before.get(cpu, now), now)) for cpu, now in found]
        before = dict(found)
        for cpu, values in found:
            if cpu not in labels:
                labels[cpu] = [(_SECONDS, {"cpu": cpu, "mode": mode}) for mode in _MODES]
                labels[cpu] += [(_GUEST, {"cpu": cpu, "mode": mode}) for mode in _GUEST_MODES]
            samples += [Sample(name, value, own) for (name, own), value in zip(labels[cpu], values, strict=False)]
        return Collection(samples, errors)

    return read


GROUP = Group("cpu", METRICS, reader)
