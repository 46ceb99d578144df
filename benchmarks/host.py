"""``python -m benchmarks.host``: cost of one reading of each group of the source host, as the table of docs/host.md.

A reading is timed in the thread of its group, and the CPU is that thread's. The readings follow one another as in a
daemon, with open files and warm caches, except for the effect of the other groups.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

from benchmarks import report
from collector.sources.host.files import Files
from collector.sources.host.group import Places
from collector.sources.host.options import HostOptions
from collector.sources.host.source import HostMetricSource, load

_HEAD = ("group", "series", "median", "CPU, mean", "slowest")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.host", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--readings", type=int, default=1000, help="of each group")
    readings = parser.parse_args().readings
    print(report.rows(_HEAD, rows(readings)))


def rows(readings: int) -> Iterator[tuple[str, ...]]:
    """A row for each group, and one for a whole collection of them all."""
    options = HostOptions()
    groups = {}
    for group in load():
        groups[group.name] = group.reader(Places(Files(options.proc), Files(options.sys)), options)
    series = {name: len(read().samples) for name, read in groups.items()}
    wall: dict[str, list[int]] = {name: [] for name in groups}
    cpu = dict.fromkeys(groups, 0)
    for _ in range(readings):
        for name, read in groups.items():
            begun, cpu_begun = time.perf_counter_ns(), time.thread_time_ns()
            read()
            cpu[name] += time.thread_time_ns() - cpu_begun
            wall[name].append(time.perf_counter_ns() - begun)
    for name in groups:
        yield _row(f"`{name}`", series[name], wall[name], cpu[name])
    source = HostMetricSource(options)
    count = len(source.collect().samples)
    whole = []
    cpu_begun = time.process_time_ns()
    for _ in range(readings):
        begun = time.perf_counter_ns()
        source.collect()
        whole.append(time.perf_counter_ns() - begun)
    yield _row("all, with their timing", count, whole, time.process_time_ns() - cpu_begun)
    source.close()


def _row(name: str, series: int, wall: list[int], cpu: int) -> tuple[str, ...]:
    median, worst = statistics.median(wall) / 1000, max(wall) / 1000
    return name, str(series), f"{median:.0f} µs", f"{cpu / len(wall) / 1000:.0f} µs", f"{worst:.0f} µs"


if __name__ == "__main__":
    main()
