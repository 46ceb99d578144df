"""pressure: time lost waiting for processors, I/O and memory, from /proc/pressure (PSI, Linux 4.20 and later).

    some avg10=0.00 avg60=0.12 avg300=0.48 total=25391777        microseconds in which at least one task waited
    full avg10=0.00 avg60=0.10 avg300=0.40 total=21507619        microseconds in which all of them did

https://docs.kernel.org/accounting/psi.html. If the kernel lacks PSI or has it disabled, there are no samples.
"""

from __future__ import annotations

import errno

from collector.source import Collection, Sample
from collector.sources.host.group import Group, Places, counter, stateless
from shm.metric import Metric
from shm.safe_repr import said


def _seconds(name: str, help_text: str) -> Metric:
    return counter(f"node_pressure_{name}_seconds_total", help_text, "seconds")


# (file, line of it): the metric
_METRIC_OF = {
    ("cpu", "some"): _seconds("cpu_waiting", "Time in which a task waited for a processor."),
    ("io", "some"): _seconds("io_waiting", "Time in which a task waited for I/O."),
    ("io", "full"): _seconds("io_stalled", "Time in which all tasks waited for I/O."),
    ("memory", "some"): _seconds("memory_waiting", "Time in which a task waited for memory."),
    ("memory", "full"): _seconds("memory_stalled", "Time in which all tasks waited for memory."),
    ("irq", "full"): _seconds("irq_stalled", "Time in which interrupts held up all tasks."),
}
_FILES = tuple(dict.fromkeys(file for file, _ in _METRIC_OF))
_NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.EOPNOTSUPP)


def total(line: str) -> tuple[str, float]:
    """(first word of the line: some or full, seconds). Raises ValueError."""
    kind, _, rest = line.partition(" ")
    return kind, int(rest.rpartition("total=")[2]) / 1e6


def read(places: Places) -> Collection:
    samples, errors = [], []
    for file in _FILES:
        try:
            found, wrong = places.proc.lines(f"pressure/{file}", total)
        except OSError as error:
            found, wrong = [], [] if error.errno in _NOT_THERE else [said(error)]
        samples += [
            Sample(_METRIC_OF[file, kind].name, seconds) for kind, seconds in found if (file, kind) in _METRIC_OF
        ]
        errors += wrong
    return Collection(samples, errors)


GROUP = Group("pressure", tuple(_METRIC_OF.values()), stateless(read))
