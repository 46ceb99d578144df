"""fogmetrics: host metrics with a day of history in shared memory. The public names, imported on first use.

Every package may import ``settings``, ``durations``, ``exit``, ``log``, ``parent`` and ``allocator``; no other package
imports ``config`` or ``cli``, except for the main programs. tests/test_layers.py has the rules.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collector.frame.collector import MetricCollector as MetricCollector
    from collector.source import Collection as Collection
    from collector.source import MetricSource as MetricSource
    from collector.source import Sample as Sample
    from collector.sources.betanet.client import BetanetClient as BetanetClient
    from collector.sources.deployment import DeploymentMetricSource as DeploymentMetricSource
    from collector.sources.node.source import NodeMetricSource as NodeMetricSource
    from exporter.aggregator import MetricAggregator as MetricAggregator
    from fogmetrics.application import drop_in as drop_in
    from fogmetrics.application.shared_collector import SharedCollector as SharedCollector
    from fogmetrics.ring_collector import RingCollector as RingCollector
    from shm.errors import FogmetricsError as FogmetricsError
    from shm.errors import MetricError as MetricError
    from shm.errors import RingError as RingError
    from shm.metric import Metric as Metric
    from shm.ring.reader import RingReader as RingReader
    from shm.ring.series import TimeSeries as TimeSeries
    from shm.ring.series import read_time_series

    get_time_series = read_time_series

# Name: (module, attribute). An application that imports drop_in must not load numpy for it.
_NAMES = {
    "BetanetClient": ("collector.sources.betanet.client", "BetanetClient"),
    "Collection": ("collector.source", "Collection"),
    "DeploymentMetricSource": ("collector.sources.deployment", "DeploymentMetricSource"),
    "FogmetricsError": ("shm.errors", "FogmetricsError"),
    "Metric": ("shm.metric", "Metric"),
    "MetricAggregator": ("exporter.aggregator", "MetricAggregator"),
    "MetricCollector": ("collector.frame.collector", "MetricCollector"),
    "MetricError": ("shm.errors", "MetricError"),
    "MetricSource": ("collector.source", "MetricSource"),
    "NodeMetricSource": ("collector.sources.node.source", "NodeMetricSource"),
    "RingCollector": ("fogmetrics.ring_collector", "RingCollector"),
    "RingError": ("shm.errors", "RingError"),
    "RingReader": ("shm.ring.reader", "RingReader"),
    "Sample": ("collector.source", "Sample"),
    "SharedCollector": ("fogmetrics.application.shared_collector", "SharedCollector"),
    "TimeSeries": ("shm.ring.series", "TimeSeries"),
    "drop_in": ("fogmetrics.application.drop_in", ""),
    "get_time_series": ("shm.ring.series", "read_time_series"),
}

__all__ = list(_NAMES)


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'fogmetrics' has no attribute {name!r}; it has {', '.join(__all__)}")
    module_name, attribute = _NAMES[name]
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        if hiding := _hiding():
            raise ImportError(f"{hiding} hides a package of fogmetrics that has the same name; rename it") from error
        raise
    return getattr(module, attribute) if attribute else module


def _hiding() -> str:
    """The file of a module of the program that was imported in place of a package of ours; empty if there is none."""
    ours = os.path.dirname(os.path.dirname(__file__))
    files = [getattr(sys.modules.get(name), "__file__", None) or "" for name in ("shm", "collector", "exporter")]
    return next((file for file in files if file and not file.startswith(ours + os.sep)), "")


def __dir__() -> list[str]:
    return __all__
