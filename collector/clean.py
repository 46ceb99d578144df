"""``python -m collector.clean DIRECTORY``: remove every ring of the namespace, on purpose, for ``make clean``.

Refuses while a daemon runs from the directory, or a writer holds a ring.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from collector.preflight import InTheWay, listens, supervisor_socket
from shm import config as configuration
from shm.command import exit_status
from shm.discovery import ring_sources
from shm.segment import unlink


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m collector.clean", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path, help="the directory of supervisord.conf")
    parser.add_argument("--config", help="the configuration file (else $FOGMETRICS_CONFIG, else ./fogmetrics.toml)")
    options = parser.parse_args(arguments)

    def body() -> int:
        path = supervisor_socket(options.directory)
        if listens(path):
            raise InTheWay(f"a supervisord listens on {path}; stop it first: supervisorctl shutdown")
        namespace = configuration.load(options.config).shm.namespace
        for one in (namespace, f"{namespace}-demo"):
            for source in ring_sources(one):
                for removed in unlink(one, source):
                    print(f"removed {removed}")
        return 0

    return exit_status("fogmetrics", body)


if __name__ == "__main__":
    raise SystemExit(main())
