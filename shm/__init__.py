"""The contract between processes: rings of frames in shared memory, one writer and any number of readers.

Read :mod:`shm.ring.protocol` first; it is the specification that the other modules enforce.
"""

VERSION = "0.1.0"  # of fogmetrics; pyproject.toml takes it from here. importlib.metadata would cost the exporter 2 MiB
