"""diskstats: reads, writes and other I/O of each block device, from /proc/diskstats.

     254       0 vda 430863 42132 20183250 353088 49595 204493 14142456 47468 0 88700 412223 122827 74 10787856 11155 4938 511

Major, minor, name, then eleven fields, since Linux 4.18 four of discards, since 5.5 two of flushes:
https://docs.kernel.org/admin-guide/iostats.html. A sector is 512 bytes, whatever the device says; times are in
milliseconds.
"""  # noqa: E501 - a line of the file

from __future__ import annotations

from collections.abc import Callable

from collector.source import Collection, Sample
from collector.sources.host.files import whole
from collector.sources.host.group import Group, Places, Read, counter, gauge
from collector.sources.host.options import HostOptions, excluded
from shm.metric import Metric

# By the unit of a metric: the factor that converts the field to it.
_FACTORS = {"bytes": 512.0, "seconds": 1e-3}
_LEAST_FIELDS = 11


def _counter(name: str, help_text: str, unit: str) -> Metric:
    return counter(name, help_text, unit, "device")


# In the order of the line.
METRICS = (
    _counter("node_disk_reads_completed_total", "Reads that were completed, in reads.", "reads"),
    _counter("node_disk_reads_merged_total", "Reads that the kernel merged with an adjacent one, in reads.", "reads"),
    _counter("node_disk_read_bytes_total", "Bytes that were read, in bytes.", "bytes"),
    _counter("node_disk_read_time_seconds_total", "Time that all reads took together.", "seconds"),
    _counter("node_disk_writes_completed_total", "Writes that were completed, in writes.", "writes"),
    _counter(
        "node_disk_writes_merged_total", "Writes that the kernel merged with an adjacent one, in writes.", "writes"
    ),
    _counter("node_disk_written_bytes_total", "Bytes that were written, in bytes.", "bytes"),
    _counter("node_disk_write_time_seconds_total", "Time that all writes took together.", "seconds"),
    gauge("node_disk_io_now", "Requests that are under way, in requests.", "requests", "device"),
    _counter("node_disk_io_time_seconds_total", "Time with a request under way, in seconds.", "seconds"),
    _counter(
        "node_disk_io_time_weighted_seconds_total",
        "Time with requests under way, times how many, in seconds.",
        "seconds",
    ),
    _counter("node_disk_discards_completed_total", "Discards that were completed.", "discards"),
    _counter("node_disk_discards_merged_total", "Discards that the kernel merged with an adjacent one.", "discards"),
    _counter("node_disk_discarded_sectors_total", "Sectors that were discarded.", "sectors"),
    _counter("node_disk_discard_time_seconds_total", "Time that all discards took together.", "seconds"),
    _counter("node_disk_flush_requests_total", "Flushes that were completed, in flushes.", "flushes"),
    _counter("node_disk_flush_requests_time_seconds_total", "Time that all flushes took together.", "seconds"),
)


def fields(line: str, left_out: Callable[[str], object]) -> tuple[str, list[float]] | None:
    """(name of the device, its fields, whose number depends on the kernel). Raises ValueError."""
    _major, _minor, device, *words = line.split()
    if left_out(device):
        return None
    if len(words) < _LEAST_FIELDS:
        raise ValueError(line)
    return device, [*map(whole, words)]


def reader(places: Places, options: HostOptions) -> Read:
    left_out = excluded(options.disk_exclude)
    factors = [(metric.name, _FACTORS.get(metric.unit, 1.0)) for metric in METRICS]

    def read() -> Collection:
        samples = []
        found, errors = places.proc.lines("diskstats", lambda line: fields(line, left_out))
        for device, values in found:
            labels = {"device": device}
            samples += [
                Sample(name, value * factor, labels) for (name, factor), value in zip(factors, values, strict=False)
            ]
        return Collection(samples, errors)

    return read


GROUP = Group("diskstats", METRICS, reader)
