"""Group: a part of the host source, with a name, the metrics it offers, and a function that reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from collector.metrics import counter as counter
from collector.metrics import gauge as gauge
from collector.source import Collection
from collector.sources.host.files import Files
from collector.sources.host.options import HostOptions
from shm.metric import Metric


class Places(NamedTuple):
    """The files of proc(5) and of sysfs that groups read."""

    proc: Files
    sys: Files


Read = Callable[[], Collection]


@dataclass(frozen=True, slots=True)
class Group:
    """A group. ``reader`` makes the function that reads the group, which may keep state between readings."""

    name: str
    metrics: tuple[Metric, ...]
    reader: Callable[[Places, HostOptions], Read]


def stateless(read: Callable[[Places], Collection]) -> Callable[[Places, HostOptions], Read]:
    """The ``reader`` of a group that has no state and no options."""
    return lambda places, _options: lambda: read(places)
