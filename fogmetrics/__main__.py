"""``python -m fogmetrics``: the command ``fogmetrics``."""

import sys
from pathlib import Path

# "python -m" puts the working directory first on the path, where a shm.py or collector.py of somebody else may be.
if not sys.flags.safe_path and Path(sys.path[0]) != Path(__file__).resolve().parents[1]:
    del sys.path[0]

from fogmetrics.cli.main import command

if __name__ == "__main__":
    sys.exit(command())
