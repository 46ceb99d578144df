"""Tables of the configuration as dataclasses. Read ``reader`` first: how a TOML table is read and checked; then
``tables``: those that collectors and exporter share. ``metric_names`` matches [metric.NAME] with metrics.
"""

from __future__ import annotations

from typing import Final

# The environment variables that go before the file; applications, which have no file, read these two as well.
ENV_NAMESPACE: Final = "FOGMETRICS_NAMESPACE"
ENV_GROUP: Final = "FOGMETRICS_GROUP"
