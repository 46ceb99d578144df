"""The source *textfile*: metrics that other programs write to a directory, in Prometheus' text format.

``source`` lists the directory, ``reading`` reads one file, ``sources/prometheus_text`` parses its text, ``translation``
converts it to metrics and samples of a ring, ``merge`` combines the files and finds conflicts.
"""

from collector.sources.textfile.source import TextfileOptions, TextfileSource

__all__ = ["TextfileOptions", "TextfileSource"]
