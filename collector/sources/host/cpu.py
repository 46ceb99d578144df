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


def seconds_by_cpu(text: str, ticks_per_second: int) -> dict[str, list[float]]:
    """The fields of each processor in seconds, by its number."""
    found = {}
    for line in text.split("\n"):
        if not line.startswith("cpu"):
            break  # they come first, and the line of interrupts after them may be long
        name, *fields = line.split()
        if name != "cpu":
            found[name[3:]] = [int(field) / ticks_per_second for field in fields]
    return found


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
        found = seconds_by_cpu(places.proc.text("stat"), ticks)
        before = {cpu: rising(before[cpu], now) if cpu in before else now for cpu, now in found.items()}
        for cpu, values in before.items():
            if cpu not in labels:
                labels[cpu] = [(_SECONDS, {"cpu": cpu, "mode": mode}) for mode in _MODES]
                labels[cpu] += [(_GUEST, {"cpu": cpu, "mode": mode}) for mode in _GUEST_MODES]
            samples += [Sample(name, value, own) for (name, own), value in zip(labels[cpu], values, strict=False)]
        return Collection(samples)

    return read


GROUP = Group("cpu", METRICS, reader)
