"""``fogmetrics check``: check the configuration and the host before the daemon starts.

supervisord starts all processes at once and retries each, so one mistake in the configuration would be dozens of
messages in their logs. This prints a sentence for each mistake on the terminal, all at once. Without a mistake, it
prints which sources are on and off.

Exit status: 0 if all is well, 78 for a wrong configuration, 75 for an obstacle on the host.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from collector import registry
from collector.frame.rules import Rules
from collector.metrics import ALL, OPTIONAL, OWN, TEXTFILE
from collector.notes import source_notes
from collector.settings import CollectorConfig
from collector.source import MetricSource
from exporter.http.web_config import web_file
from exporter.reload import mistakes as exporter_mistakes
from fogmetrics import config as configuration
from fogmetrics.cli import host, programs
from fogmetrics.cli.directory import add_arguments, config_file
from fogmetrics.config import Config
from fogmetrics.durations import written
from fogmetrics.exit import exit_status
from fogmetrics.settings.metric_names import metric_table, table_fits
from fogmetrics.settings.reader import close_to, mistakes_of
from fogmetrics.settings.tables import ShmConfig
from shm.errors import ConfigurationError
from shm.owners import group_number
from shm.ring import disk_copy


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="fogmetrics check", description="Check the configuration and this host.")
    add_arguments(parser)
    parser.add_argument(
        "--config-only", action="store_true", help="check only the configuration, as before a start elsewhere"
    )
    options = parser.parse_args(arguments)

    def body() -> int:
        print(f"fogmetrics: SUCCESS: {summary(*check_all(options.directory, options.config, options.config_only))}")
        return 0

    return exit_status("fogmetrics", body)


def check_all(directory: Path, given: str | None, config_only: bool = False) -> tuple[Config, list[MetricSource]]:
    """Check the configuration, print notes, and check the host unless ``config_only``; the configuration, its sources.

    ``given``: the file that --config names. Raises ConfigurationError, or InTheWay.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # paths that are not UTF-8 are printed as they are
    config, sources = examine(directory, given)
    for note in notes(config, sources, directory):
        print(f"fogmetrics: note: {note}", file=sys.stderr)
    if not config_only:
        host.check(directory, config)
    return config, sources


def examine(directory: Path, given: str | None) -> tuple[Config, list[MetricSource]]:
    """The configuration of a daemon and its sources. Raises ConfigurationError with all that any process would refuse.

    ``given``: the file that --config names.
    """
    config, mistakes = configuration.examine(config_file(directory, given), directory=directory)
    mistakes += mistakes_of(group_number, config.shm.group, config.where("shm"))
    mistakes += exporter_mistakes(config, directory)
    if config.shm.snapshot_directory is not None:
        mistakes += mistakes_of(disk_copy.check_directory, config.shm.snapshot_directory, config.where("shm"))
    metrics, sources = [*OWN, *OPTIONAL, *ALL], list[MetricSource]()
    for name in registry.source_names(config):
        if name in config.source and config.source[name].class_ and registry.why_off(name, config):
            continue  # its class may be gone
        try:
            source = registry.build(name, config)
        except ConfigurationError as error:
            mistakes += error.args
            continue
        metrics += source.metrics
        sources.append(source)
    mistakes += filter(None, map(Rules.of(config).flaw, metrics))
    if mistakes:
        raise ConfigurationError(*dict.fromkeys(mistakes))
    return config, sources


def summary(config: Config, sources: Iterable[MetricSource]) -> str:
    """The line that says that the configuration is valid, and which sources are on and off."""
    on = programs.on(config, sources)
    off = [name for name in registry.source_names(config) if name not in on]
    if config.path is None:
        file = f"there is no {configuration.DEFAULT_FILE}, so every key has its default, which"
    else:
        file = str(config.path)
    return f"{file} is valid; on: {', '.join(on) or 'no source'}; off: {', '.join(off) or 'none'}"


def notes(config: Config, sources: Iterable[MetricSource], directory: Path) -> list[str]:
    """Settings that are valid but have no effect, of sources and of shared tables."""
    sources = list(sources)
    found = [f"{config.file}: {note}" for source in sources for note in source_notes(source, config)]
    found += web.current().notes if (web := web_file(config, directory)) else ()
    return [*found, *shared_notes(config, sources)]


def shared_notes(config: Config, sources: Iterable[MetricSource]) -> Iterator[str]:
    """Keys of [shm], [collector], [exporter] and [metric.NAME] without effect."""
    if config.shm.snapshot_seconds != ShmConfig().snapshot_seconds and not config.shm.snapshot_dir:
        yield f"{config.where('shm')} snapshot_seconds has no effect without snapshot_dir; set it, or remove the key"
    most, of_metric = config.collector.max_series, config.collector.max_series_per_metric
    if of_metric > most and of_metric != CollectorConfig().max_series_per_metric:
        yield (
            f"{config.where('collector')} max_series_per_metric is {of_metric}, more than a source may have, whose "
            f"max_series is {most}; raise that, or lower it"
        )
    history = max(registry.capacity(one.name, config) * registry.times(one.name, config)[0] for one in sources)
    if config.exporter.window > history:
        yield (
            f"{config.where('exporter')} window is {written(config.exporter.window)}, but no ring holds more than "
            f"{written(history)}; lower it, or raise [shm] capacity"
        )
    metrics = [*ALL, *TEXTFILE, *(metric for source in sources for metric in source.metrics)]
    known = {name: None for one in metrics for name in (one.name, one.family)}
    for name in config.metric:
        if not any(table_fits(name, one) for one in metrics) and (close := close_to(name, known)):
            yield (
                f"{config.file}: {metric_table(name)} fits no metric of the built-in sources; did you mean {close!r}?"
            )


if __name__ == "__main__":
    sys.exit(main())
