"""The textfile source: what other programs of this host write into a directory, in Prometheus' text format.

Read downwards: ``source`` lists the directory, ``reading`` reads one file, ``sources/prometheus_text`` parses its text,
``translation`` makes our metrics and samples of it, ``merge`` says which of them may stand beside one another.
"""

from collector.sources.textfile.source import TextfileOptions, TextfileSource

__all__ = ["TextfileOptions", "TextfileSource"]
