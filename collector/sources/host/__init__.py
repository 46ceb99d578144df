"""The source *host*: node_exporter's metric families, with its types, labels and units. Off unless enabled.

A group is what node_exporter calls a collector, with the same name: of the module here, in [source.host] groups, and in
the label ``collector`` of its timing. :mod:`~collector.sources.host.source` loads and reads the groups.
"""
