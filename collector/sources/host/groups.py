"""The groups, on one screen. A worker imports those that it reads."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from collector.sources.host.group import Group, gauge
from collector.sources.host.options import GROUPS

# Of each group, as node_exporter tells of its collectors.
DURATION = gauge(
    "node_scrape_collector_duration_seconds", "How long the group's last reading took.", "seconds", "collector"
)
SUCCESS = gauge("node_scrape_collector_success", "1 when the group's last reading succeeded, else 0.", "", "collector")


def load(names: Iterable[str] = GROUPS) -> list[Group]:
    """The groups of those names, in the order of their names."""
    return [importlib.import_module(f"collector.sources.host.{name}").GROUP for name in sorted(set(names))]
