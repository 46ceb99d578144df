"""From samples to frames: ``collector`` stages samples and commits them as one frame; ``definitions`` and
``cardinality`` decide which metrics and series the ring admits.
"""
