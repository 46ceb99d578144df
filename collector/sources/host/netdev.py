"""netdev: bytes, packets and errors of each network interface, from /proc/net/dev.

Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
  eth0: 1314129449   37985    0    0    0     0          0         0  2173959   20293    0    0    0     0       0          0
"""  # noqa: E501 - lines of the file

from __future__ import annotations

from collector.source import Collection, Sample
from collector.sources.host.group import Group, Places, Read, counter
from collector.sources.host.options import HostOptions, excluded

_RECEIVED = ("bytes", "packets", "errs", "drop", "fifo", "frame", "compressed", "multicast")
_SENT = ("bytes", "packets", "errs", "drop", "fifo", "colls", "carrier", "compressed")

METRICS = tuple(
    counter(
        f"node_network_{direction}_{field}_total",
        f"What /proc/net/dev has as {field} of {word}.",
        "bytes" if field == "bytes" else "",
        "device",
    )
    for direction, word, fields in (("receive", "receiving", _RECEIVED), ("transmit", "sending", _SENT))
    for field in fields
)


def interface_counts(text: str) -> dict[str, list[int]]:
    """The sixteen counts of each interface, by its name."""
    found = {}
    for line in text.split("\n")[2:]:
        name, separator, rest = line.rpartition(":")  # the last colon: an alias has one in its name
        if separator:
            found[name.strip()] = [int(word) for word in rest.split()]
    return found


def reader(places: Places, options: HostOptions) -> Read:
    left_out = excluded(options.network_exclude)

    def read() -> Collection:
        samples = []
        for device, counts in interface_counts(places.proc.text("net/dev")).items():
            if not left_out(device):
                labels = {"device": device}
                samples += [Sample(metric.name, count, labels) for metric, count in zip(METRICS, counts, strict=False)]
        return Collection(samples)

    return read


GROUP = Group("netdev", METRICS, reader)
