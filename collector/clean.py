"""``python -m collector.clean DIRECTORY``: remove every ring of the namespace, on purpose, for ``make clean``.

With what dead writers left of one, and with its snapshots on disk, from which the next start would restore it.

Refuses while a daemon runs from the directory, or a writer holds a ring.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from collector.preflight import InTheWay, listens, supervisor_socket
from shm import config as configuration
from shm import snapshot
from shm.command import exit_status
from shm.segment import sources_of, unlink


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m collector.clean", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path, help="the directory of supervisord.conf")
    parser.add_argument("--config", help="the configuration file (else $FOGMETRICS_CONFIG, else ./fogmetrics.toml)")
    options = parser.parse_args(arguments)

    def body() -> int:
        path = supervisor_socket(options.directory)
        if listens(path):
            raise InTheWay(f"a supervisord listens on {path}; stop it first: supervisorctl shutdown")
        config = configuration.load(options.config).shm
        directory = config.snapshot_directory
        for namespace in (config.namespace, f"{config.namespace}-demo"):
            for source in sources_of(namespace):
                for removed in unlink(namespace, source, lock_too=True):
                    print(f"removed {removed}")
            for removed in snapshot.unlink(directory, namespace) if directory is not None else []:
                print(f"removed {removed}")
        return 0

    return exit_status("fogmetrics", body)


if __name__ == "__main__":
    raise SystemExit(main())
