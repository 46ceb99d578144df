"""diskstats: reads, writes and other I/O of each block device, from /proc/diskstats.

     254       0 vda 430863 42132 20183250 353088 49595 204493 14142456 47468 0 88700 412223 122827 74 10787856 11155 4938 511

Major, minor, name, then eleven fields, since Linux 4.18 four of discards, since 5.5 two of flushes:
https://docs.kernel.org/admin-guide/iostats.html. A sector is 512 bytes, whatever the device says; times are in
milliseconds.
"""  # noqa: E501 - a line of the file

from __future__ import annotations

from collector.source import Sample
from collector.sources.host.group import Group, Places, Read, Reading, counter, gauge
from collector.sources.host.options import HostOptions, excluded

_SECTOR_BYTES = 512.0
_MILLISECOND = 1e-3

# In the order of the line, each with the factor that converts the field to the metric's unit.
_FIELDS = (
    (counter("node_disk_reads_completed_total", "Reads that were completed, in reads.", "reads", "device"), 1.0),
    (counter("node_disk_reads_merged_total", "Reads merged with one beside them, in reads.", "reads", "device"), 1.0),
    (counter("node_disk_read_bytes_total", "Bytes that were read, in bytes.", "bytes", "device"), _SECTOR_BYTES),
    (
        counter("node_disk_read_time_seconds_total", "Time that all reads took together.", "seconds", "device"),
        _MILLISECOND,
    ),
    (counter("node_disk_writes_completed_total", "Writes that were completed, in writes.", "writes", "device"), 1.0),
    (
        counter("node_disk_writes_merged_total", "Writes merged with one beside them, in writes.", "writes", "device"),
        1.0,
    ),
    (counter("node_disk_written_bytes_total", "Bytes that were written, in bytes.", "bytes", "device"), _SECTOR_BYTES),
    (
        counter("node_disk_write_time_seconds_total", "Time that all writes took together.", "seconds", "device"),
        _MILLISECOND,
    ),
    (gauge("node_disk_io_now", "Requests that are under way, in requests.", "requests", "device"), 1.0),
    (
        counter("node_disk_io_time_seconds_total", "Time with a request under way, in seconds.", "seconds", "device"),
        _MILLISECOND,
    ),
    (
        counter(
            "node_disk_io_time_weighted_seconds_total",
            "Time with requests under way, times how many, in seconds.",
            "seconds",
            "device",
        ),
        _MILLISECOND,
    ),
    (
        counter("node_disk_discards_completed_total", "Discards that were completed.", "discards", "device"),
        1.0,
    ),
    (counter("node_disk_discards_merged_total", "Discards merged with one beside them.", "discards", "device"), 1.0),
    (counter("node_disk_discarded_sectors_total", "Sectors that were discarded.", "sectors", "device"), 1.0),
    (
        counter("node_disk_discard_time_seconds_total", "Time that all discards took together.", "seconds", "device"),
        _MILLISECOND,
    ),
    (counter("node_disk_flush_requests_total", "Flushes that were completed, in flushes.", "flushes", "device"), 1.0),
    (
        counter(
            "node_disk_flush_requests_time_seconds_total", "Time that all flushes took together.", "seconds", "device"
        ),
        _MILLISECOND,
    ),
)


def fields_by_device(text: str) -> dict[str, list[int]]:
    """The fields of each device, by its name; their number depends on the kernel."""
    found = {}
    for line in text.split("\n"):
        words = line.split()
        if len(words) > 3:
            found[words[2]] = [int(word) for word in words[3:]]
    return found


def reader(places: Places, options: HostOptions) -> Read:
    left_out = excluded(options.disk_exclude)

    def read() -> Reading:
        samples = []
        for device, fields in fields_by_device(places.proc.text("diskstats")).items():
            if not left_out(device):
                labels = {"device": device}
                samples += [
                    Sample(metric.name, field * factor, labels)
                    for (metric, factor), field in zip(_FIELDS, fields, strict=False)
                ]
        return Reading(samples)

    return read


GROUP = Group("diskstats", tuple(metric for metric, _ in _FIELDS), reader)
