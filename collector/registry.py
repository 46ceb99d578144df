"""Registry of sources: finds and builds the class that reads a source.

Built-in sources are in one table; others are found by ``class`` in [source.NAME], or by an entry point of an installed
package. A source's module is imported when it is built, so that a collector loads only what its own source needs.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from collector.metrics import LAST_SNAPSHOT, OWN
from collector.settings import CollectorTables, SourceConfig
from collector.source import MetricSource
from fogmetrics.settings.reader import Where, keys_of, read_table
from shm.errors import ConfigurationError
from shm.metric import Metric
from shm.ring.layout import MIN_CAPACITY
from shm.safe_repr import said, shown

# The default timeout is this share of the interval, at most this many seconds.
_TIMEOUT_SHARE = 0.8
_MOST_TIMEOUT = 10.0

# A request must time out before its collection does, so that the samples of the other requests are kept: options with
# this ending are cut to this share of the collection's timeout.
_REQUEST, _REQUEST_SHARE = "_timeout_seconds", 0.8

# name: (module, class, its options). A class that needs more than its options has a classmethod
# from_config(options, config, timeout_seconds).
BUILT_IN: Mapping[str, tuple[str, str, str]] = {
    "node": ("collector.sources.node.source", "NodeMetricSource", "NodeOptions"),
    "deployment": ("collector.sources.deployment", "DeploymentMetricSource", "DeploymentOptions"),
    "betanet": ("collector.sources.betanet.source", "BetanetSource", "BetanetOptions"),
    "system": ("collector.sources.system", "SystemMetricSource", "SystemOptions"),
    "host": ("collector.sources.host.source", "HostMetricSource", "HostOptions"),
    "textfile": ("collector.sources.textfile", "TextfileSource", "TextfileOptions"),
    "applications": ("collector.sources.applications", "ApplicationsSource", "ApplicationsOptions"),
}


# Built-in sources that are off unless their table has ``enabled = true``.
_OFF_BY_DEFAULT = ("host", "applications")

# In a package's pyproject.toml: [project.entry-points."fogmetrics.sources"] NAME = "module:Class"
ENTRY_POINTS = "fogmetrics.sources"


def source_names(config: CollectorTables) -> list[str]:
    """Names of the built-in sources and of those in the configuration."""
    return list(dict.fromkeys([*BUILT_IN, *config.source]))


def why_off(name: str, config: CollectorTables) -> str:
    """Why the configuration has the source off, as a phrase; empty if it is on."""
    table = config.source.get(name, SourceConfig())
    if name == "textfile" and not table.class_ and not table.enabled and not table.options.get("directory"):
        return "[source.textfile] directory is empty"
    default = table.class_ != "" or name not in _OFF_BY_DEFAULT
    return "" if (default if table.enabled is None else table.enabled) else f"[source.{name}] enabled is false"


def off(config: CollectorTables) -> list[str]:
    """The sources that the configuration has off."""
    return [name for name in source_names(config) if why_off(name, config)]


def _entry_points() -> dict[str, str]:
    """ "module:Class" by source name, from the entry points of installed packages."""
    from importlib import metadata  # takes 2 MiB and reads every package: only for unknown names

    return {one.name: one.value for one in metadata.entry_points(group=ENTRY_POINTS)}


def times(name: str, config: CollectorTables) -> tuple[float, float]:
    """(interval, timeout) of a source, in seconds. Raises ConfigurationError if the timeout is not shorter."""
    table = config.source.get(name, SourceConfig())
    interval = table.interval_seconds or config.collector.interval_seconds
    if interval < 0.1:
        raise ConfigurationError(
            f"{config.where(f'source.{name}')} interval_seconds is {interval}; give 0.1 or more, or 0 for [collector]'s"
        )
    default = min(_TIMEOUT_SHARE * interval, _MOST_TIMEOUT)
    timeout = table.timeout_seconds or config.collector.timeout_seconds or default
    if timeout >= interval:
        raise ConfigurationError(
            f"{config.where(f'source.{name}')} timeout_seconds is {timeout:g}, but a frame is due every "
            f"{interval:g} s; give less than the interval"
        )
    return interval, timeout


def capacity(name: str, config: CollectorTables) -> int:
    """Number of frames in the source's ring. Raises ConfigurationError for fewer than MIN_CAPACITY."""
    frames = config.source.get(name, SourceConfig()).capacity or config.shm.capacity
    if frames < MIN_CAPACITY:
        raise ConfigurationError(
            f"{config.where(f'source.{name}')} capacity is {frames}; give {MIN_CAPACITY} frames or more, or 0 for "
            "[shm]'s"
        )
    return frames


def build(name: str, config: CollectorTables) -> MetricSource:
    """Build the source ``name`` from its table. Raises ConfigurationError."""
    table = config.source.get(name, SourceConfig())
    options = table.options
    where = config.where(f"source.{name}")
    if name in BUILT_IN and not table.class_:
        if name == "textfile" and table.enabled and not options.get("directory"):
            raise ConfigurationError(f"{where} enabled is true, but directory is empty; set it, or remove enabled")
        try:
            return _built_in(name, options, config)
        except ConfigurationError as error:
            if not str(error).startswith(f"[source.{name}"):
                raise
            # The class names its table in messages, but does not know the file.
            raise ConfigurationError(f"{config.file}: {error}") from error
    installed = {} if table.class_ else _entry_points()
    path = table.class_ or installed.get(name)
    if not path and name not in config.source:
        known = dict.fromkeys([*source_names(config), *installed])
        raise ConfigurationError(
            f"there is no source {name!r}; the sources are {', '.join(known)}; "
            f'to add one of your own, write [source.{name}] with class = "module:Class"'
        )
    if not path:
        raise ConfigurationError(
            f"{where} has no class, and no installed package has an entry point {ENTRY_POINTS!r} of that name; add "
            'class = "module:Class"'
        )
    return _own(name, path, options, where)


def _built_in(name: str, options: Mapping[str, Any], config: CollectorTables) -> MetricSource:
    """Build a built-in source. Raises ConfigurationError; messages of the class begin with its table."""
    module, class_name, options_name = BUILT_IN[name]
    loaded = importlib.import_module(module)
    where = Where(config.file).inner("source").inner(name)
    cls = getattr(loaded, options_name)
    modernized = getattr(cls, "modernized", None)  # of classes whose keys have old spellings
    options, old_spellings = modernized(options) if modernized else (options, ())
    given = {"old_spellings": old_spellings} if old_spellings else {}
    chosen = read_table(cls, options, where, type(config), **given)
    timeout = times(name, config)[1]
    cut = {one: min(getattr(chosen, one), _REQUEST_SHARE * timeout) for one in keys_of(cls) if one.endswith(_REQUEST)}
    chosen = dataclasses.replace(chosen, **cut)
    made = getattr(loaded, class_name)
    source: MetricSource = made.from_config(chosen, config, timeout) if hasattr(made, "from_config") else made(chosen)
    return source


def _own(name: str, path: str, options: Mapping[str, Any], where: str) -> MetricSource:
    """Build a user's source or custom collector: ``Class(**options)``, with the other keys of its table."""
    module, separator, class_name = path.partition(":")
    if not separator:
        raise ConfigurationError(f'{where} class is {path!r}; give "module:Class"')
    what = f"{where} class {path!r}"
    try:
        cls = getattr(importlib.import_module(module), class_name)
        source = cls(**options)
        if _is_custom_collector(source):
            from collector.sources.custom_collector import CustomCollectorSource  # imports prometheus_client

            return CustomCollectorSource(name, source)
        whole = isinstance(source, MetricSource) and type(source).collect is not MetricSource.collect
        found = {key: getattr(source, key, None) for key in ("name", "metrics", "first_ticks_seconds", "off")}
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:  # importing a module that is a program may raise SystemExit
        raise ConfigurationError(
            f"{what} can't be made from {dict(options)}: {said(error)}; "
            "install it in this environment, and see that it takes these keys"
        ) from error
    if not whole or found["name"] is None:
        raise ConfigurationError(
            f"{what} is not a source, which needs name, metrics, open(), collect() and close(): "
            "subclass collector.source.MetricSource; a custom collector of prometheus_client needs only collect()"
        )
    _check_metrics(found["metrics"], what)
    first = found["first_ticks_seconds"]
    if first is not None and not (isinstance(first, Sequence) and first and all(_is_a_time(one) for one in first)):
        raise ConfigurationError(f"{what} has the first_ticks_seconds {shown(first)}; give a list of seconds")
    if found["name"] != name:
        raise ConfigurationError(
            f"{what} has the name {shown(found['name'])}; the table and the source need the same name: rename one"
        )
    return cast(MetricSource, source)


def _is_custom_collector(made: object) -> bool:
    """Whether it is a custom collector of prometheus_client: it has collect(), but does not resemble a MetricSource."""
    meant = MetricSource in type(made).__mro__ or (hasattr(made, "name") and hasattr(made, "metrics"))
    return not meant and callable(getattr(made, "collect", None))


def _check_metrics(metrics: object, what: str) -> None:
    """Raises ConfigurationError for metrics that conflict with each other or with the daemon's own."""
    if not isinstance(metrics, Sequence) or not all(isinstance(one, Metric) for one in metrics):
        raise ConfigurationError(f"{what} has the metrics {shown(metrics)}; give a list of Metric")
    own = {one.name for one in (*OWN, LAST_SNAPSHOT)}
    known: dict[str, Metric] = {}
    for one in metrics:
        if one.name in own:
            raise ConfigurationError(f"{what} has the metric {one.name!r}, which is the daemon's own; rename it")
        if known.setdefault(one.name, one) != one:
            raise ConfigurationError(f"{what} has two different metrics {one.name!r}; rename one")


def _is_a_time(seconds: object) -> bool:
    return isinstance(seconds, int | float) and not isinstance(seconds, bool) and 0 <= seconds < math.inf
