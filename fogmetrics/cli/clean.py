"""``fogmetrics clean``: remove all rings, tables and snapshots of the namespace that a daemon's configuration names.

It includes files that dead writers left, and no other namespace, however similar its name. ``make clean`` runs it. It
refuses while a daemon runs from the directory, a writer holds a ring, or a process of an application lives.

Exit status: 1 if there was nothing to remove.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

from fogmetrics.cli import directory
from fogmetrics.cli.host import InTheWay, listens
from fogmetrics.exit import exit_status
from shm.files import DIRECTORY, elsewhere, file_start, removable, sources_of, unlink
from shm.ring import disk_copy
from shm.safe_repr import shown
from shm.table.descriptors import check_idle
from shm.table.descriptors import unlink as unlink_tables
from shm.table.format import applications_of


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="fogmetrics clean", description="Remove the rings, tables and snapshots of a daemon that does not run."
    )
    directory.add_arguments(parser)
    options = parser.parse_args(arguments)

    def body() -> int:
        directory.check_is_one(options.directory, options.config)
        path = directory.supervisor_socket(options.directory)
        if listens(path):
            raise InTheWay(
                f"a supervisord listens on {path}; stop it with {directory.stop_command(options.directory)}, or wait "
                "until it has stopped its programs"
            )
        config = directory.load(options.directory, options.config)
        shm, snapshots, found = config.shm, config.shm.snapshot_directory, False
        for removed in clean(shm.namespace, snapshots and options.directory / snapshots):
            found = True
            print(f"removed {removed}")
        if not found:
            where = f"namespace {shm.namespace!r} (configuration: {config.file})"
            print(f"fogmetrics: nothing to remove: no files of {where}; {elsewhere()}", file=sys.stderr)
        left = [path.name for path in DIRECTORY.glob(f"{file_start(shm.namespace)}*") if not removable(path)]
        if left:
            print(
                f"fogmetrics: note: {len(left)} files of this namespace in {DIRECTORY} are left, since they belong to "
                f"other users or are directories, such as {shown(min(left))}",
                file=sys.stderr,
            )
        return 0 if found else 1

    return exit_status("fogmetrics", body)


def clean(namespace: str, snapshot_directory: Path | None) -> Iterator[Path]:
    """Remove the rings, tables and snapshots of a namespace, and yield the path of each removed file.

    Files of other users, which only they and root can remove, and directories are left.

    Raises WriterBusy or another FogmetricsError, before anything is removed, while a process of an application lives.
    """
    applications = applications_of(namespace)
    for application in applications:
        check_idle(namespace, application)
    for source in sources_of(namespace):
        yield from unlink(namespace, source, lock_too=True)
    for application in applications:
        yield from unlink_tables(namespace, application, lock_too=True)
    if snapshot_directory is not None:
        yield from disk_copy.unlink(snapshot_directory, namespace)
