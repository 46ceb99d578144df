"""Which class reads a source: the four built-in ones in one table, users' own by ``class`` in their table.

Nothing is imported until a source is built, so that a worker carries what its own source needs and no more.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from collector.source import MetricSource
from collector.words import shown
from shm.catalog import Metric
from shm.config import Config, SourceConfig, read_table
from shm.discovery import user_number
from shm.errors import ConfigurationError

# Without a timeout of its own a source has this share of its interval, up to this many seconds.
_TIMEOUT_SHARE = 0.8
_MOST_TIMEOUT = 10.0
# A request's timeout is cut to this share of the collection's, so that one endpoint that hangs is given up before the
# whole collection is, and the others' samples are kept. Requests that are made one after the other have it together.
_REQUEST_SHARE = 0.8

# name: (module, class, its options)
BUILT_IN: Mapping[str, tuple[str, str, str]] = {
    "node": ("collector.sources.node", "NodeMetricSource", "NodeOptions"),
    "deployment": ("collector.sources.deployment", "DeploymentMetricSource", "DeploymentOptions"),
    "betanet": ("collector.sources.betanet", "BetanetSource", "BetanetOptions"),
    "system": ("collector.sources.system", "SystemMetricSource", "SystemOptions"),
}


def source_names(config: Config) -> list[str]:
    """Every source that can be started: the built-in ones and those of the configuration."""
    return list(dict.fromkeys([*BUILT_IN, *config.source]))


def times(name: str, config: Config) -> tuple[float, float]:
    """(interval, timeout) of a source, in seconds. Raises ConfigurationError when the timeout is no shorter."""
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


def build(name: str, config: Config) -> MetricSource:
    """The source of that name, made from its table. Raises ConfigurationError."""
    table = config.source.get(name, SourceConfig())
    options = config.source_options.get(name, {})
    where = config.where(f"source.{name}")
    if name in BUILT_IN and not table.class_:
        module, class_name, options_name = BUILT_IN[name]
        loaded = importlib.import_module(module)
        chosen = read_table(getattr(loaded, options_name), options, where)
        if hasattr(chosen, "request_timeout_seconds"):
            share = _REQUEST_SHARE * times(name, config)[1] / getattr(chosen, "requests_in_turn", 1)
            bounded = min(chosen.request_timeout_seconds, share)
            chosen = dataclasses.replace(chosen, request_timeout_seconds=bounded)
        extra = {"namespace": config.shm.namespace, "owner": user_number(config.shm.owner)} if name == "system" else {}
        source: MetricSource = getattr(loaded, class_name)(chosen, **extra)
        return source
    if name not in config.source:
        raise ConfigurationError(
            f"there is no source {name!r}; the sources are {', '.join(source_names(config))}; "
            f'for one of your own add [source.{name}] with class = "module:Class"'
        )
    if not table.class_:
        raise ConfigurationError(f'{where} has no class; add class = "module:Class", the class that reads it')
    return _own(name, table.class_, options, where)


def _own(name: str, path: str, options: Mapping[str, Any], where: str) -> MetricSource:
    """A user's source: ``Class(**options)``, the table's other keys as keyword arguments."""
    module, separator, class_name = path.partition(":")
    if not separator:
        raise ConfigurationError(f'{where} class is {path!r}; give "module:Class"')
    try:
        cls = getattr(importlib.import_module(module), class_name)
        source = cls(**options)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"{where} class {path!r} can't be made from {dict(options)}: {type(error).__name__}: {error}; "
            "see that it is installed in this environment and takes these keys"
        ) from error
    if not isinstance(source, MetricSource):
        raise ConfigurationError(
            f"{where} class {path!r} is no source; it needs name, metrics, open(), collect() and close(): "
            "subclass collector.source.MetricSource"
        )
    if not isinstance(source.metrics, Sequence) or not all(isinstance(one, Metric) for one in source.metrics):
        raise ConfigurationError(
            f"{where} class {path!r} has the metrics {shown(source.metrics)}; give a list of Metric"
        )
    first = getattr(source, "first_tick_seconds", 0.0)
    if isinstance(first, bool) or not isinstance(first, (int, float)) or not 0 <= first < math.inf:
        raise ConfigurationError(f"{where} class {path!r} has the first_tick_seconds {shown(first)}; give seconds")
    if source.name != name:
        raise ConfigurationError(
            f"{where} class {path!r} calls itself {source.name!r}; one name everywhere: rename the table or the source"
        )
    return source
