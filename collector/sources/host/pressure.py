"""pressure: time lost waiting for processors, I/O and memory, from /proc/pressure (PSI, Linux 4.20 and later).

    some avg10=0.00 avg60=0.12 avg300=0.48 total=25391777        microseconds in which at least one task waited
    full avg10=0.00 avg60=0.10 avg300=0.40 total=21507619        microseconds in which all of them did

https://docs.kernel.org/accounting/psi.html. If the kernel lacks PSI or has it disabled, there are no samples.
"""

from __future__ import annotations

import errno

from collector.source import Sample
from collector.sources.host.group import Group, Places, counter, stateless

# (file, line of it): the metric
_METRIC_OF = {
    ("cpu", "some"): counter(
        "node_pressure_cpu_waiting_seconds_total", "Time in which a task waited for a processor.", "seconds"
    ),
    ("io", "some"): counter(
        "node_pressure_io_waiting_seconds_total", "Time in which a task waited for I/O.", "seconds"
    ),
    ("io", "full"): counter(
        "node_pressure_io_stalled_seconds_total", "Time in which all tasks waited for I/O.", "seconds"
    ),
    ("memory", "some"): counter(
        "node_pressure_memory_waiting_seconds_total", "Time in which a task waited for memory.", "seconds"
    ),
    ("memory", "full"): counter(
        "node_pressure_memory_stalled_seconds_total", "Time in which all tasks waited for memory.", "seconds"
    ),
    ("irq", "full"): counter(
        "node_pressure_irq_stalled_seconds_total", "Time in which interrupts held up all tasks.", "seconds"
    ),
}
_FILES = tuple(dict.fromkeys(file for file, _ in _METRIC_OF))
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EOPNOTSUPP)


def totals(text: str) -> dict[str, float]:
    """Seconds by the first word of the line: some, full."""
    found = {}
    for line in text.split("\n"):
        kind, separator, rest = line.partition(" ")
        if separator:
            found[kind] = int(rest.rpartition("total=")[2]) / 1e6
    return found


def read(places: Places) -> list[Sample]:
    samples = []
    for file in _FILES:
        try:
            text = places.proc.text(f"pressure/{file}")
        except OSError as error:
            if error.errno in _NOT_THERE:
                continue
            raise
        samples += [
            Sample(_METRIC_OF[file, kind].name, seconds)
            for kind, seconds in totals(text).items()
            if (file, kind) in _METRIC_OF
        ]
    return samples


GROUP = Group("pressure", tuple(_METRIC_OF.values()), stateless(read))
