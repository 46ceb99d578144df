"""``python -m fogmetrics``: the command ``fogmetrics``."""

import sys

from fogmetrics.cli.main import command

if __name__ == "__main__":
    sys.exit(command())
