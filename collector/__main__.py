"""``python -m collector NAME``: collect one source into its ring until told to stop.

Exit status: 0 after a signal to stop, 78 for a configuration that must be mended (EX_CONFIG, sysexits.h), 75 when
the ring can't be had now (EX_TEMPFAIL: it has a writer, or there is no memory for it), so that supervisord tries again.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time

from collector import registry
from collector.collector import MetricCollector
from collector.metrics import OWN
from collector.runner import Runner
from collector.samples import check_sample
from collector.snapshots import Snapshots
from collector.source import Collection, MetricSource
from collector.stop import Stop
from collector.threads import collect
from collector.words import said, shown
from collector.worker import FIRST_TICK_SECONDS, Worker
from shm import config as configuration
from shm import log as logs
from shm import snapshot
from shm.command import exit_status
from shm.config import Config, SourceConfig
from shm.parent import Parent
from shm.segment import check_name, files_of, unlink

log = logging.getLogger("collector")


def main(arguments: list[str] | None = None) -> int:
    parent = Parent()  # before anything that takes time: one that dies meanwhile would never be missed
    options = _parser().parse_args(arguments)

    def body() -> int:
        config = configuration.load(options.config)
        logs.set_up(config.log.level, config.log.format)
        if options.unlink:
            return _unlink(options.name, config)
        if config.shm.snapshot_directory is not None:
            snapshot.check_directory(config.shm.snapshot_directory, config.where("shm"))
        source = registry.build(options.name, config)
        interval, timeout = registry.times(options.name, config)
        if options.once:
            return _once(source, timeout)
        return run(source, config, interval, timeout, parent)

    return exit_status(f"collector {options.name}", body)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m collector", description="Collect one source into its ring.")
    parser.add_argument("name", help="the source: node, deployment, betanet, system, or one of your own")
    parser.add_argument("--config", help="the configuration file (else $FOGMETRICS_CONFIG, else ./fogmetrics.toml)")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--once", action="store_true", help="collect once, print the samples, write no ring")
    chosen.add_argument(
        "--unlink", action="store_true", help="remove the source's ring, history and snapshots, and exit"
    )
    return parser


def run(source: MetricSource, config: Config, interval: float, timeout: float, parent: Parent) -> int:
    """The life of a collector process; its exit status."""
    stop = Stop(parent)
    stop.catch_signals()
    table = config.source.get(source.name, SourceConfig())
    collector = MetricCollector(
        source.name,
        namespace=config.shm.namespace,
        interval_seconds=interval,
        capacity=config.shm.capacity,
        group=config.shm.group,
        max_series=table.max_series or config.collector.max_series,
        max_series_per_metric=config.collector.max_series_per_metric,
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
    Worker(source, collector, interval, timeout, stop=stop, snapshots=snapshots).run()
    log.info("stopped", extra={"source": source.name, "sequence": writer.head})
    return 0


def _once(source: MetricSource, timeout: float) -> int:
    """Print what one collection gives, for whoever sets up or writes a source."""
    runner = Runner(source.name)

    def job() -> Collection:
        opened = source.open()
        if opened is not None:
            runner.await_(opened, timeout)
        time.sleep(FIRST_TICK_SECONDS)  # rates need two readings
        return collect(source, runner, timeout)

    try:
        collection = runner.call(job, FIRST_TICK_SECONDS + 2 * timeout + 1)
    except Exception as error:  # noqa: BLE001 - what the daemon would log, for whoever sets up or writes a source
        print(f"error: {said(error)}", file=sys.stderr)
        return 1
    errors = list(collection.errors)
    known = {metric.name: metric for metric in (*source.metrics, *OWN)}
    for sample in collection.samples:
        try:
            check_sample(known, sample)
        except Exception as error:  # noqa: BLE001 - whatever it is, the daemon would refuse it too
            errors.append(f"{shown(sample)}: {said(error)}")
            continue
        labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
        print(f"{sample.metric}{{{labels}}} {sample.value}" if labels else f"{sample.metric} {sample.value}")
    for text in errors:
        print(f"error: {text}", file=sys.stderr)
    return 0 if collection.up and len(errors) == len(collection.errors) else 1


def _unlink(name: str, config: Config) -> int:
    check_name("the name of a source", name)
    removed = unlink(config.shm.namespace, name) if files_of(config.shm.namespace, name) else []
    if (directory := config.shm.snapshot_directory) is not None:
        removed += snapshot.unlink(directory, config.shm.namespace, name)
    for path in removed:
        print(f"removed {path}")
    if not removed:
        print(f"there is nothing of a source {name!r} in namespace {config.shm.namespace!r}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
