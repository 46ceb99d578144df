"""The host in node_exporter's words: its families, types, labels and units, group by group, off unless it is enabled.

A group is what node_exporter calls a collector, and has its name: a module here, a word in [source.host] groups, the
value of the label ``collector`` in its timing. :mod:`~collector.sources.host.groups` names them all,
:mod:`~collector.sources.host.source` reads them.
"""

from collector.sources.host.options import HostOptions
from collector.sources.host.source import HostMetricSource

__all__ = ["HostMetricSource", "HostOptions"]
