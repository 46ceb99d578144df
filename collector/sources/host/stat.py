"""stat: counts of the whole host since boot, from the lines of /proc/stat without those of processors.

intr 8163102 0 0 …
ctxt 17763937
btime 1795795621
processes 93834
procs_running 2
procs_blocked 0
"""

from __future__ import annotations

from collector.source import Collection, Sample
from collector.sources.host.group import Group, Places, counter, gauge, stateless

_METRIC_OF = {
    "intr": counter("node_intr_total", "Interrupts that were served, in interrupts.", "interrupts"),
    "ctxt": counter("node_context_switches_total", "Context switches of all processors, in switches.", "switches"),
    "btime": gauge("node_boot_time_seconds", "When the host booted, in Unix seconds.", "seconds"),
    "processes": counter("node_forks_total", "Processes and threads that were made, in forks.", "forks"),
    "procs_running": gauge("node_procs_running", "Threads that run or could run, in threads.", "threads"),
    "procs_blocked": gauge("node_procs_blocked", "Threads that wait for I/O, in threads.", "threads"),
}


def sample(line: str) -> Sample | None:
    """The first number of a known line. Raises ValueError."""
    name, _, rest = line.partition(" ")
    metric = _METRIC_OF.get(name)
    if metric is None:
        return None
    return Sample(metric.name, int(rest.split(" ", 1)[0]))  # the line of interrupts begins with their sum


def read(places: Places) -> Collection:
    return Collection(*places.proc.lines("stat", sample))


GROUP = Group("stat", tuple(_METRIC_OF.values()), stateless(read))
