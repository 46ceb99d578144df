"""Tables of the configuration as dataclasses. ``toml_file`` reads the file, ``reader`` reads and checks a table of it,
``tables`` has the tables that collectors and exporter share, ``metric_names`` matches [metric.NAME] with metrics.
"""

from __future__ import annotations

from typing import Final

# Environment variables. Applications, which have no configuration file, read both.
ENV_NAMESPACE: Final = "FOGMETRICS_NAMESPACE"
ENV_GROUP: Final = "FOGMETRICS_GROUP"
