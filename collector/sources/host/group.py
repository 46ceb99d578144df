"""What a group is: a name, the metrics it offers, and how it is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from collector.source import Sample
from collector.sources.host.files import Files
from collector.sources.host.options import HostOptions
from shm.metric import Metric


class Reading(NamedTuple):
    """What a group gave; ``errors``: a sentence for each part of it that failed."""

    samples: Sequence[Sample]
    errors: Sequence[str] = ()


class Places(NamedTuple):
    """Where a group reads: files of proc(5) and of sysfs, which it has for itself."""

    proc: Files
    sys: Files


Read = Callable[[], Reading]


@dataclass(frozen=True, slots=True)
class Group:
    """``reader`` makes the function that reads the group once; what it remembers between two readings is its own."""

    name: str
    metrics: tuple[Metric, ...]
    reader: Callable[[Places, HostOptions], Read]


def counter(name: str, help_text: str, unit: str = "", *labels: str) -> Metric:
    return Metric(name, "counter", help_text, unit, labels)


def gauge(name: str, help_text: str, unit: str = "", *labels: str) -> Metric:
    return Metric(name, "gauge", help_text, unit, labels)
