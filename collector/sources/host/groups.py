"""Loads the groups of the host source by name; only the enabled ones are imported."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from collector.sources.host.group import Group, gauge
from collector.sources.host.options import GROUPS

# node_exporter's metrics of its collectors, here of each group.
DURATION = gauge(
    "node_scrape_collector_duration_seconds", "How long the group's last reading took.", "seconds", "collector"
)
SUCCESS = gauge("node_scrape_collector_success", "1 when the group's last reading succeeded, else 0.", "", "collector")


def load(names: Iterable[str] = GROUPS) -> list[Group]:
    """Import the groups with these names, ordered by name."""
    return [importlib.import_module(f"collector.sources.host.{name}").GROUP for name in sorted(set(names))]
