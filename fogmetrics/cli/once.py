"""``fogmetrics once SOURCE``: collect one source once and print its samples.

It writes no ring, and may run beside the daemon. Exit status: 1 if the source is down, or if the daemon would refuse or
drop a sample; 78 for a wrong configuration.
"""

from __future__ import annotations

import argparse
import os

from collector.__main__ import main as collector
from fogmetrics.cli import directory
from fogmetrics.exit import exit_status


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fogmetrics once", description="Collect one source once, print its samples.")
    parser.add_argument("source", help="node, deployment, betanet, system, host, textfile, applications, or your own")
    directory.add_arguments(parser)
    options = parser.parse_args(arguments)

    def body() -> int:
        config = directory.config_file(options.directory, options.config)
        if config is None:
            os.chdir(options.directory)  # which has no configuration; the working directory might have another daemon's
        return collector([options.source, "--once", *(["--config", str(config)] if config else [])])

    return exit_status("fogmetrics", body)
