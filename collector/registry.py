"""Registry of sources: finds and builds the class that reads a source.

Built-in sources are in one table; others are found by ``class`` in [source.NAME], or by an entry point of an installed
package. A source's module is imported when it is built, so that a collector loads only what its own source needs.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

from collector.metrics import LAST_SNAPSHOT, OWN
from collector.raised_at import raised_at
from collector.settings import CollectorTables, SourceConfig
from collector.source import MetricSource
from fogmetrics.settings.reader import Where, close_to, keys_of, mistakes_of, names, read_partly, toml_key, unknown_key
from shm.errors import ConfigurationError
from shm.files import check_name
from shm.metric import Metric
from shm.ring.layout import MIN_CAPACITY
from shm.safe_repr import said, shown

# The default timeout is this share of the interval, at most this many seconds.
_TIMEOUT_SHARE = 0.8
_MOST_TIMEOUT = 10.0

# A request must time out before its collection does, so that the samples of the other requests are kept: options with
# this ending are cut to this share of the collection's timeout.
REQUEST, REQUEST_SHARE = "_timeout_seconds", 0.8

# name: (module, class, module:class of its options). A class that needs more than its options has a classmethod
# from_config(options, config, timeout_seconds). The module of the options imports no library, since every process
# checks every table.
BUILT_IN: Mapping[str, tuple[str, str, str]] = {
    "node": ("collector.sources.node.source", "NodeMetricSource", "collector.sources.node.options:NodeOptions"),
    "deployment": (
        "collector.sources.deployment", "DeploymentMetricSource", "collector.sources.deployment:DeploymentOptions",
    ),
    "betanet": (
        "collector.sources.betanet.source", "BetanetSource", "collector.sources.betanet.options:BetanetOptions",
    ),
    "system": ("collector.sources.system", "SystemMetricSource", "collector.sources.system:SystemOptions"),
    "host": ("collector.sources.host.source", "HostMetricSource", "collector.sources.host.options:HostOptions"),
    "textfile": ("collector.sources.textfile", "TextfileSource", "collector.sources.textfile:TextfileOptions"),
    "applications": (
        "collector.sources.applications", "ApplicationsSource", "collector.settings:ApplicationsOptions",
    ),
}  # fmt: skip

# Programs of the daemon that collect no source.
RESERVED: Final = ("exporter", "rules", "archive", "remote_write")

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


def why_source_off(source: MetricSource, config: CollectorTables) -> str:
    """Why a source is off: by the configuration, or by its own attribute ``off``; empty if it is on."""
    return why_off(source.name, config) or getattr(source, "off", "")


def on(config: CollectorTables) -> list[str]:
    """The sources that the configuration has on; a user's own class may still be off by its attribute."""
    return [name for name in source_names(config) if not why_off(name, config)]


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
    where = config.where(f"source.{name}" if table.interval_seconds or table.timeout_seconds else "collector")
    interval = table.interval_seconds or config.collector.interval_seconds
    if interval < 0.1:
        raise ConfigurationError(f"{where} interval_seconds is {interval:g}; give 0.1 or more, or 0 for [collector]'s")
    default = min(_TIMEOUT_SHARE * interval, _MOST_TIMEOUT)
    timeout = table.timeout_seconds or config.collector.timeout_seconds or default
    if timeout >= interval:
        raise ConfigurationError(
            f"{where} timeout_seconds is {timeout:g}, but a frame is due every {interval:g} s; give less than the "
            "interval"
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


def mistakes(config: CollectorTables) -> Iterator[str]:
    """A message for each mistake in the tables of sources, without importing the class of any source.

    What a class itself refuses is found by build().
    """
    for name in config.source:
        yield from mistakes_of(check_name, f"{_where(name, config)} is the table of a source, whose name", name)
        if name in RESERVED:
            yield f"{_where(name, config)} has the name of a program of the daemon's own; rename the source"
    for name in source_names(config):
        for check in (times, capacity, _class_path):
            yield from mistakes_of(check, name, config)
        table = config.source.get(name, SourceConfig())
        if name not in BUILT_IN or table.class_:
            continue
        if name == "textfile" and table.enabled and not table.options.get("directory"):
            yield f"{_where(name, config)} enabled is true, but directory is empty; set it, or remove enabled"
        if table.options:
            found: list[str] = []
            _options(name, config, found)
            yield from found


def build(name: str, config: CollectorTables) -> MetricSource:
    """Build the source ``name`` from its table. Raises ConfigurationError."""
    path = _class_path(name, config)
    if path:
        return _own(name, path, config.source.get(name, SourceConfig()).options, _where(name, config))
    return _built_in(name, config)


def _class_path(name: str, config: CollectorTables) -> str:
    """ "module:Class" of a source; empty for a built-in one. Raises ConfigurationError for an unknown source."""
    table = config.source.get(name)
    if table and table.class_:
        return table.class_
    if name in BUILT_IN:
        return ""
    installed = _entry_points()
    if name in installed:
        return installed[name]
    known = dict.fromkeys([*BUILT_IN, *(one for one in config.source if one != name), *installed])
    close = close_to(name, known)
    if table is None:
        raise ConfigurationError(
            f"there is no source {name!r}; {f'did you mean {close!r}? T' if close else 't'}he sources are "
            f'{", ".join(known)}; to add one of your own, write [source.{toml_key(name)}] with class = "module:Class"'
        )
    raise ConfigurationError(
        f"{_where(name, config)} is no source: {f'did you mean {close!r}? I' if close else 'i'}t "
        f"has no class, and no installed package has an entry point {ENTRY_POINTS!r} of that name; "
        'correct the name, or add class = "module:Class"'
    )


def _where(name: str, config: CollectorTables) -> Where:
    return Where(config.file).inner("source").inner(name)


def options_class(name: str) -> type[Any]:
    """The dataclass of the keys of a built-in source."""
    module, _, class_name = BUILT_IN[name][2].partition(":")
    found: type[Any] = getattr(importlib.import_module(module), class_name)
    return found


def _options(name: str, config: CollectorTables, found: list[str]) -> Any:
    """The options of a built-in source; messages of mistakes go to ``found``."""
    cls = options_class(name)
    options = config.source.get(name, SourceConfig()).options
    given = {}
    if modernized := getattr(cls, "modernized", None):  # of classes whose keys have old spellings
        try:
            options, old_spellings = modernized(options)
        except ConfigurationError as error:
            found.extend(f"{config.file}: {one}" for one in error.args)
            options, old_spellings = {one: each for one, each in options.items() if not names(error.args, one)}, ()
        given = {"old_spellings": old_spellings} if old_spellings else {}
    return read_partly(cls, options, _where(name, config), found, type(config), keys_of(SourceConfig), **given)


def _built_in(name: str, config: CollectorTables) -> MetricSource:
    """Build a built-in source. Raises ConfigurationError; messages of the class begin with its table."""
    module, class_name, _ = BUILT_IN[name]
    found: list[str] = []
    chosen = _options(name, config, found)
    keys = keys_of(type(chosen))
    try:
        timeout = times(name, config)[1]
    except ConfigurationError as error:
        found.extend(error.args)
        timeout = _MOST_TIMEOUT
    cut = {one: min(getattr(chosen, one), REQUEST_SHARE * timeout) for one in keys if one.endswith(REQUEST)}
    chosen = dataclasses.replace(chosen, **cut)
    made = getattr(importlib.import_module(module), class_name)
    try:
        source = made.from_config(chosen, config, timeout) if hasattr(made, "from_config") else made(chosen)
    except ConfigurationError as error:
        # A key that could not be read has its default here: what the class says of it is no mistake of the user's.
        unread = [one for one in keys if names(found, one)]
        for one in error.args:
            if not any(names([one.partition("; ")[0]], key) for key in unread):
                # The class names its table in messages, but does not know the file.
                found.append(f"{config.file}: {one}" if one.startswith(f"[source.{name}") else one)
    if found:
        raise ConfigurationError(*found)
    return cast(MetricSource, source)


def _own(name: str, path: str, options: Mapping[str, Any], where: Where) -> MetricSource:
    """Build a user's source or custom collector: ``Class(**options)``, with the other keys of its table."""
    module, separator, class_name = path.partition(":")
    if not separator:
        raise ConfigurationError(f'{where} class is {path!r}; give "module:Class"')
    what = f"{where} class {path!r}"
    try:
        cls = getattr(importlib.import_module(module), class_name)
        if unknown := _unknown_keys(cls, options, where):
            raise ConfigurationError(*unknown)
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
            f"{what} can't be made from {dict(options)}: {said(error)}{raised_at(error)}; "
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


def _unknown_keys(cls: Any, options: Mapping[str, Any], where: Where) -> list[str]:
    """A message for each key that the class takes no argument for; none if it takes any, or can't be asked."""
    try:
        parameters = inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return []
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters.values()):
        return []
    keys = [*parameters, *keys_of(SourceConfig)]
    return [unknown_key(one, keys, where, {}) for one in options if one not in parameters]


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
