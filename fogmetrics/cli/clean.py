"""``python -m fogmetrics.cli.clean DIRECTORY``: remove every ring and table of the namespace, for ``make clean``.

With what dead writers left of one, and with its snapshots on disk, from which the next start would restore it.

Refuses while a daemon runs from the directory, a writer holds a ring, or a process of an application lives.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fogmetrics import config as configuration
from fogmetrics.cli.check import InTheWay, listens, supervisor_socket
from fogmetrics.exit import exit_status
from shm.files import sources_of, unlink
from shm.ring import disk_copy
from shm.table.format import applications_of, check_idle
from shm.table.format import unlink as unlink_tables


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m fogmetrics.cli.clean", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("directory", type=Path, help="the directory of supervisord.conf")
    parser.add_argument("--config", help="the configuration file (else $FOGMETRICS_CONFIG, else ./fogmetrics.toml)")
    options = parser.parse_args(arguments)

    def body() -> int:
        path = supervisor_socket(options.directory)
        if listens(path):
            raise InTheWay(f"a supervisord listens on {path}; stop it first: supervisorctl shutdown")
        config = configuration.load(options.config).shm
        directory = config.snapshot_directory
        namespaces = config.namespace, f"{config.namespace}-demo"
        for namespace in namespaces:  # before anything is removed
            for application in applications_of(namespace):
                check_idle(namespace, application)
        for namespace in namespaces:
            for source in sources_of(namespace):
                for removed in unlink(namespace, source, lock_too=True):
                    print(f"removed {removed}")
            for application in applications_of(namespace):
                for removed in unlink_tables(namespace, application, lock_too=True):
                    print(f"removed {removed}")
            for removed in disk_copy.unlink(directory, namespace) if directory is not None else []:
                print(f"removed {removed}")
        return 0

    return exit_status("fogmetrics", body)


if __name__ == "__main__":
    raise SystemExit(main())
