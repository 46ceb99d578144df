"""fogmetrics: host metrics with a day of history in shared memory. The public names, imported when they are first used.

``settings``, ``durations``, ``exit``, ``log`` and ``parent`` are the ground floor, which every package may import;
``config`` and ``cli`` are on top of all packages. tests/test_layers.py has the rules.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collector.frame.collector import MetricCollector
    from collector.source import MetricSource, Sample
    from fogmetrics.application import drop_in
    from fogmetrics.application.shared_collector import SharedCollector
    from shm.metric import Metric
    from shm.ring.reader import RingReader

__all__ = ["Metric", "MetricCollector", "MetricSource", "RingReader", "Sample", "SharedCollector", "drop_in"]

# Which module has each name. An application that imports drop_in must not load numpy or any collector for it.
_MODULES = {
    "Metric": "shm.metric",
    "MetricCollector": "collector.frame.collector",
    "MetricSource": "collector.source",
    "RingReader": "shm.ring.reader",
    "Sample": "collector.source",
    "SharedCollector": "fogmetrics.application.shared_collector",
    "drop_in": "fogmetrics.application",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'fogmetrics' has no attribute {name!r}; it has {', '.join(__all__)}")
    module = importlib.import_module(_MODULES[name])
    return importlib.import_module(f"{module.__name__}.{name}") if name == "drop_in" else getattr(module, name)


def __dir__() -> list[str]:
    return __all__
