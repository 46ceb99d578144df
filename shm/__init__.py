"""Rings of frames and tables of values in shared memory: one writer, any number of readers.

Read :mod:`shm.ring.protocol` first: it specifies the ring that the other modules implement.
"""

VERSION = "0.1.0"  # of fogmetrics; pyproject.toml reads it from here. importlib.metadata would cost the exporter 2 MiB
