"""``python -m collector NAME``: collect one source into its ring until a signal stops it.

Exit status: 0 after a signal, or at once if the source is off; 1 if ``--unlink`` finds nothing to remove; 78 for a
wrong configuration (EX_CONFIG, sysexits.h); 75 if the ring can't be opened now (EX_TEMPFAIL: it has a writer, or there
is no memory), so that supervisord tries again.
"""

from __future__ import annotations

import argparse
import logging
import sys

from collector import registry
from collector.frame.collector import MetricCollector
from collector.frame.rules import Rules
from collector.loop.disk_copies import Snapshots
from collector.loop.stop import Stop
from collector.loop.worker import Worker
from collector.metrics import OPTIONAL, OWN
from collector.notes import source_notes
from collector.settings import SourceConfig
from collector.source import MetricSource
from fogmetrics import allocator
from fogmetrics import config as configuration
from fogmetrics import log as logs
from fogmetrics.config import Config
from fogmetrics.exit import exit_status
from fogmetrics.parent import Parent
from fogmetrics.settings.reader import close_to
from shm.files import check_name, elsewhere, files_of, ring_path, sources_of, unlink
from shm.ring import disk_copy
from shm.table.descriptors import unlink as unlink_tables
from shm.table.format import applications_of

log = logging.getLogger("collector")


def main(arguments: list[str] | None = None) -> int:
    parent = Parent()  # first of all: if supervisord died before this, its death would go unnoticed
    options = _options(arguments)

    def body() -> int:
        config = configuration.load(options.config)
        logs.set_up(config.log.level, config.log.format)
        if options.unlink:
            return _unlink(options.name, config)
        if config.shm.snapshot_directory is not None:
            disk_copy.check_directory(config.shm.snapshot_directory, config.where("shm"))
        source = registry.build(options.name, config)
        Rules.of(config).check((*source.metrics, *OWN, *OPTIONAL))
        interval, timeout = registry.times(options.name, config)
        off = registry.why_source_off(source, config)
        if options.once:
            from collector.dry_run import once  # not needed by the daemon

            if off:
                print(f"note: the daemon does not collect {source.name!r}: {off}", file=sys.stderr)
            return once(source, timeout, *_limits(source, config), Rules.of(config))
        if off:
            return _disabled(source.name, off, config)
        return run(source, config, interval, timeout, parent)

    return exit_status(f"collector {options.name}", body)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m collector", description="Collect one source into its ring.")
    parser.add_argument(
        "name", help="the source: node, deployment, betanet, system, host, textfile, applications, or one of your own"
    )
    parser.add_argument("--config", help="the configuration file (else $FOGMETRICS_CONFIG, else ./fogmetrics.toml)")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--once", action="store_true", help="collect once, print the samples, write no ring")
    chosen.add_argument(
        "--unlink",
        action="store_true",
        help="remove the source's ring, history and snapshots, or an application's tables, and exit",
    )
    return parser.parse_args(arguments)


def run(source: MetricSource, config: Config, interval: float, timeout: float, parent: Parent) -> int:
    """Run the collector of ``source`` until it is stopped; its exit status."""
    allocator.use_one_arena()  # replies of 4 MiB that several threads read and parse took 40 MiB, and take 20
    stop = Stop(parent)
    stop.catch_signals()
    max_series, max_series_per_metric = _limits(source, config)
    collector = MetricCollector(
        source.name,
        namespace=config.shm.namespace,
        interval_seconds=interval,
        capacity=registry.capacity(source.name, config),
        group=config.shm.group,
        max_series=max_series,
        max_series_per_metric=max_series_per_metric,
        rules=Rules.of(config),
        snapshot_dir=config.shm.snapshot_directory,
    )
    snapshots = None
    if (directory := config.shm.snapshot_directory) is not None:
        snapshots = Snapshots(directory, config.shm.namespace, source.name, config.shm.snapshot_seconds)
    writer = collector.writer
    log.info(
        "collecting",
        extra={
            "source": source.name,
            "interval": interval,
            "ring": str(writer.path),
            "resumed_frames": writer.resumed,
            "sequence": writer.head,
        },
    )
    for note in source_notes(source, config):
        log.warning("note", extra={"source": source.name, "note": note})
    Worker(source, collector, interval, timeout, stop=stop, snapshots=snapshots).run()
    log.info("stopped", extra={"source": source.name, "sequence": writer.head})
    return 0


def _limits(source: MetricSource, config: Config) -> tuple[int, int]:
    """(max_series, max_series_per_metric) of the source."""
    table = config.source.get(source.name, SourceConfig())
    return (
        table.max_series or max(config.collector.max_series, getattr(source, "default_max_series", 0)),
        table.max_series_per_metric
        or max(config.collector.max_series_per_metric, getattr(source, "default_max_series_per_metric", 0)),
    )


def _disabled(name: str, reason: str, config: Config) -> int:
    """Log that the source is off, and warn of a remaining ring, which the exporter would show as stale."""
    log.info("source disabled", extra={"source": name, "reason": reason})
    if ring_path(config.shm.namespace, name).exists():
        log.warning(
            "ring left",
            extra={"source": name, "remedy": f"python -m collector {name} --unlink removes it and its history"},
        )
    return 0


def _unlink(name: str, config: Config) -> int:
    check_name("the name of a source", name)
    removed = unlink(config.shm.namespace, name) if files_of(config.shm.namespace, name) else []
    if name in applications_of(config.shm.namespace):
        removed += unlink_tables(config.shm.namespace, name)
    if (directory := config.shm.snapshot_directory) is not None:
        removed += disk_copy.unlink(directory, config.shm.namespace, name)
    for path in removed:
        print(f"removed {path}")
    if removed:
        return 0
    known = [*sources_of(config.shm.namespace), *applications_of(config.shm.namespace)]
    if close := close_to(name, known):
        hint = f"did you mean {close!r}?"
    else:
        hint = f"sources with files there: {', '.join(known)}" if known else elsewhere()
    where = f"in namespace {config.shm.namespace!r} (configuration: {config.file})"
    print(f"nothing to remove: no files of a source {name!r} {where}; {hint}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
