"""netdev: bytes, packets and errors of each network interface, from /proc/net/dev.

Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
  eth0: 1314129449   37985    0    0    0     0          0         0  2173959   20293    0    0    0     0       0          0
"""  # noqa: E501 - lines of the file

from __future__ import annotations

from collections.abc import Callable

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


def counts(line: str, left_out: Callable[[str], object]) -> tuple[str, list[int]] | None:
    """(name of the interface, its sixteen counts); None for the two lines of the head. Raises ValueError."""
    name, _, rest = line.rpartition(":")  # the last colon: an alias has one in its name
    device = name.strip()
    if left_out(device) if device else "|" in line:
        return None
    found = [int(word) for word in rest.split()]
    if not device or len(found) < len(METRICS):
        raise ValueError(line)
    return device, found


def reader(places: Places, options: HostOptions) -> Read:
    left_out = excluded(options.network_exclude)

    def read() -> Collection:
        samples = []
        found, errors = places.proc.lines("net/dev", lambda line: counts(line, left_out))
        for device, values in found:
            labels = {"device": device}
            samples += [Sample(metric.name, value, labels) for metric, value in zip(METRICS, values, strict=False)]
        return Collection(samples, errors)

    return read


GROUP = Group("netdev", METRICS, reader)
