"""The configuration: one TOML file that collectors and exporter read alike, checked before anything starts.

Found at ``--config``, else ``FOGMETRICS_CONFIG``, else ``fogmetrics.toml`` in the working directory (supervisord
starts every process in the directory of supervisord.conf), else the defaults below. Each table is a frozen
dataclass whose fields are its keys; ``Key`` gives a key's meaning and bounds, so that the check, the message and
the documentation can't disagree. An unknown key or a wrong type is a ConfigurationError that names file, key,
value and remedy: a silent typo would cost a day of history before anybody noticed.
"""

from __future__ import annotations

import dataclasses
import os
import re
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from fogmetrics.durations import parse_duration
from shm.errors import ConfigurationError, MetricError
from shm.metric import Metric, check_buckets

DEFAULT_FILE = "fogmetrics.toml"
ENV_CONFIG = "FOGMETRICS_CONFIG"
ENV_NAMESPACE = "FOGMETRICS_NAMESPACE"
ENV_GROUP = "FOGMETRICS_GROUP"

T = TypeVar("T")


def key(
    default: Any, doc: str, *, low: float | None = None, high: float | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """A key of a table: its default, its meaning in one sentence, its bounds (inclusive) or its choices."""
    return field(default=default, metadata={"doc": doc, "low": low, "high": high, "choices": choices})


# What becomes of a series beyond a limit: its samples are dropped; it takes the place of the one whose last sample is
# oldest; it is added to the series whose label's value is "other".
BEYOND = ("drop", "oldest", "other")


@dataclass(frozen=True, slots=True)
class ShmConfig:
    """[shm]: where the rings are and how long they reach."""

    namespace: str = key("default", "Keeps two instances on one host apart; part of every segment's name.")
    capacity: int = key(
        5760,
        "Frames that a ring holds: 5760 are 24 h at 15 s. Memory is taken for all of them.",
        low=8,
        high=16_777_216,
    )
    group: str = key("", "Group (name or number) that may read the rings; empty: the collector's own group.")
    owner: str = key("", "User (name or number) whose rings readers trust; empty: the reader's own user.")
    snapshot_dir: str = key("", "Directory on disk for snapshots of the rings, restored after a reboot; empty: none.")
    snapshot_seconds: float = key(300.0, "Time from one snapshot of a ring to the next.", low=1, high=86_400)

    @property
    def snapshot_directory(self) -> Path | None:
        return Path(self.snapshot_dir) if self.snapshot_dir else None


@dataclass(frozen=True, slots=True)
class CollectorConfig:
    """[collector]: defaults of every source; [source.NAME] may set its own."""

    interval_seconds: float = key(15.0, "Time from one frame to the next.", low=0.1, high=3600)
    timeout_seconds: float = key(
        0.0,
        "Time a collection may take; 0: 80 % of the interval, 10 s at most. Must be below the interval.",
        low=0,
        high=3600,
    )
    max_series: int = key(
        1000, "Series that one source may have; beyond says what becomes of more.", low=1, high=100_000
    )
    max_series_per_metric: int = key(
        200, "Series that one metric may have; beyond says what becomes of more.", low=1, high=100_000
    )
    max_label_values: int = key(
        0, "Distinct values that any one label of a metric may have; 0: no limit.", low=0, high=100_000
    )
    beyond: str = key(
        "drop",
        "What becomes of series beyond a limit: dropped, let in for the oldest, or folded into other.",
        choices=BEYOND,
    )


@dataclass(frozen=True, slots=True)
class ExporterConfig:
    """[exporter]: the HTTP server."""

    listen: str = key("127.0.0.1", 'Address to listen on; "0.0.0.0" opens the port to the network.')
    port: int = key(9200, "Port to listen on; 0 takes a free one and logs it.", low=0, high=65535)
    window: str = key("5m", "Window of /metrics/aggregated where the request names none.")
    max_window: str = key("7d", "Longest window that a request may ask for.")
    stale_intervals: float = key(
        3.0, "A source is stale when its newest frame is older than this many of its intervals.", low=1, high=1000
    )
    gzip_min_bytes: int = key(
        1024, "Smallest page that is compressed for clients that accept gzip.", low=0, high=1_000_000_000
    )
    nice: int = key(
        5,
        "Niceness that the exporter adds to its own, so that collectors come first where processors are scarce.",
        low=0,
        high=19,
    )
    max_connections: int = key(
        256, "Connections kept; one more takes the place of one that waits, or is answered 503.", low=1, high=100_000
    )
    keep_alive_seconds: float = key(
        75.0, "Time that a connection is kept after an answer without the next request.", low=0.1, high=86_400
    )
    request_seconds: float = key(10.0, "Time that a request may take to arrive.", low=0.1, high=3600)
    answer_seconds: float = key(60.0, "Time that an answer may wait for its client to take it.", low=0.1, high=3600)
    max_request_bytes: int = key(
        65_536, "Longest request, head and body; a longer one is answered 431.", low=1024, high=1_048_576
    )
    max_jobs: int = key(
        16,
        "Requests for /metrics/aggregated and /stats that wait at once; one more is answered 503.",
        low=1,
        high=1000,
    )


@dataclass(frozen=True, slots=True)
class ApplicationsConfig:
    """[applications]: programs that keep their metrics in tables."""

    users: tuple[str, ...] = key((), "Users (names or numbers), beside [shm] owner, whose tables are believed.")


@dataclass(frozen=True, slots=True)
class LogConfig:
    """[log]: of every process, to standard error."""

    level: str = key("info", "Least severity that is written.", choices=("debug", "info", "warning", "error"))
    format: str = key("logfmt", "logfmt for people, json for machines.", choices=("logfmt", "json"))


@dataclass(frozen=True, slots=True)
class SourceConfig:
    """[source.NAME]: what every source may set beside the keys of its own class. Unset: [collector]'s."""

    class_: str = key("", "module:Class of a source of your own; the built-in names need none.")
    interval_seconds: float = key(0.0, "Time from one frame to the next; 0: [collector]'s.", low=0, high=3600)
    timeout_seconds: float = key(0.0, "Time a collection may take; 0: [collector]'s.", low=0, high=3600)
    max_series: int = key(0, "Series that this source may have; 0: [collector]'s.", low=0, high=100_000)
    max_series_per_metric: int = key(
        0, "Series that one metric of this source may have; 0: [collector]'s.", low=0, high=100_000
    )
    capacity: int = key(0, "Frames that its ring holds, 8 or more; 0: [shm]'s.", low=0, high=16_777_216)


@dataclass(frozen=True, slots=True)
class MetricConfig:
    """[metric.NAME]: what one metric may set, or all whose names fit a glob. Unset: the source's, [collector]'s."""

    max_series: int = key(
        0, "Series that the metric may have in one source; 0: max_series_per_metric.", low=0, high=100_000
    )
    beyond: str = key("", "What becomes of series beyond a limit; empty: [collector]'s.", choices=("", *BEYOND))
    max_label_values: int = key(
        -1, "Distinct values that any one label may have; 0: no limit, -1: [collector]'s.", low=-1, high=100_000
    )
    buckets: tuple[float, ...] = key(
        (), "Upper bounds of a histogram, in the metric's unit, rising; empty: the source's."
    )


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration. ``path`` is None where no file was found and all is default."""

    path: Path | None = None
    shm: ShmConfig = ShmConfig()
    collector: CollectorConfig = CollectorConfig()
    exporter: ExporterConfig = ExporterConfig()
    applications: ApplicationsConfig = ApplicationsConfig()
    log: LogConfig = LogConfig()
    source: Mapping[str, SourceConfig] = field(default_factory=dict)
    source_options: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # keys of the sources' own classes
    metric: Mapping[str, MetricConfig] = field(default_factory=dict)  # by name or glob, in the order of the file

    def where(self, table: str) -> str:
        """How messages name a table of this configuration."""
        return f"{self.path or 'defaults'}: [{table}]"


_TABLES: dict[str, Any] = {
    "shm": ShmConfig,
    "collector": CollectorConfig,
    "exporter": ExporterConfig,
    "applications": ApplicationsConfig,
    "log": LogConfig,
}
_NAMED = ("source", "metric")  # the tables of tables
_GLOB = re.compile(r"[a-zA-Z0-9_:*?!\[\]-]+\Z")
_GLOB_MARKS = frozenset("*?[")


def load(path: str | Path | None = None, environ: Mapping[str, str] | None = None) -> Config:
    """The configuration in force. Raises ConfigurationError."""
    environ = os.environ if environ is None else environ
    chosen = path or environ.get(ENV_CONFIG) or None
    if chosen is None and not Path(DEFAULT_FILE).exists():
        config = Config()
    else:
        config = parse(_read(Path(chosen or DEFAULT_FILE)), Path(chosen or DEFAULT_FILE))
    namespace = environ.get(ENV_NAMESPACE)
    if namespace:
        config = dataclasses.replace(config, shm=dataclasses.replace(config.shm, namespace=namespace))
    return config


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigurationError(
            f"there is no configuration file {path}; give --config or {ENV_CONFIG} one that exists"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"the configuration file {path} can't be read: {error}") from error


def parse(text: str, path: Path) -> Config:
    """The configuration that ``text`` holds; ``path`` is for messages. Raises ConfigurationError."""
    try:
        document = tomllib.loads(text)
        repr(document)  # so that every message below can show the value that it is about
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}; see https://toml.io/en/v1.0.0") from None
    except ValueError:  # the interpreter's limit, sys.get_int_max_str_digits()
        raise ConfigurationError(f"{path} holds a number of thousands of digits; no key needs one") from None
    except RecursionError:
        raise ConfigurationError(f"{path} nests too deeply to be read; no key needs more than a list") from None
    tables = _TABLES
    read: dict[str, Any] = {}
    sources: dict[str, SourceConfig] = {}
    options: dict[str, Mapping[str, Any]] = {}
    metrics: dict[str, MetricConfig] = {}
    for name, value in document.items():
        if name in _NAMED and isinstance(value, dict):
            for one, table in value.items():
                if not isinstance(table, dict):
                    raise ConfigurationError(f"{path}: [{name}] {one} is {table!r}; make it a table: [{name}.{one}]")
                if name == "source":
                    common, options[one] = _split_source(table)
                    sources[one] = read_table(SourceConfig, common, f"{path}: [source.{one}]")
                else:
                    metrics[one] = _read_metric(one, table, path)
        elif name in _NAMED:
            raise ConfigurationError(f"{path}: {name} is {value!r}; make it a table: [{name}.NAME]")
        elif name not in tables and not isinstance(value, dict):
            raise _outside(path, name, tables)
        elif name not in tables:
            raise _unknown(str(path), name, [*tables, *_NAMED], "table")
        elif not isinstance(value, dict):
            raise ConfigurationError(f"{path}: {name} is {value!r}; make it a table: [{name}]")
        else:
            read[name] = read_table(tables[name], value, f"{path}: [{name}]")
    return Config(path=path, source=sources, source_options=options, metric=metrics, **read)


def windows_ns(config: Config) -> tuple[int, int]:
    """[exporter] (window, max_window) in nanoseconds. Raises ConfigurationError."""
    found = []
    for name, text in (("window", config.exporter.window), ("max_window", config.exporter.max_window)):
        try:
            found.append(parse_duration(text))
        except ValueError as error:
            raise ConfigurationError(
                f'{config.where("exporter")} {name} is {text!r}; give a duration such as "5m": it {error}'
            ) from None
    window_ns, max_window_ns = found
    if window_ns > max_window_ns:
        raise ConfigurationError(
            f"{config.where('exporter')} window is {config.exporter.window!r}, longer than max_window, which is "
            f"{config.exporter.max_window!r}: requests that name no window would be refused; lower the one or raise "
            "the other"
        )
    return window_ns, max_window_ns


def _read_metric(name: str, table: Mapping[str, Any], path: Path) -> MetricConfig:
    """[metric.NAME]; NAME is a metric's name, or a glob of names."""
    where = f"{path}: {metric_table(name)}"
    if is_glob(name):
        if not _GLOB.match(name):
            raise ConfigurationError(
                f"{where} fits no metric's name; those have letters, digits, '_' and ':', and a glob *, ? and [] beside"
            )
    else:
        try:
            Metric(name, "gauge", "")
        except MetricError as error:
            raise ConfigurationError(f"{where} is of no metric: {error}") from None
    read = read_table(MetricConfig, table, where)
    if read.buckets:
        try:
            check_buckets(name, read.buckets)
        except MetricError as error:
            raise ConfigurationError(f"{where} buckets can't be used: {error}") from None
    return read


def is_glob(name: str) -> bool:
    """Whether [metric.NAME] is of all metrics whose names fit, and not of one."""
    return not _GLOB_MARKS.isdisjoint(name)


def table_fits(name: str, metric: Metric) -> bool:
    """Whether [metric.NAME] is of that metric. A counter is found with and without ``_total``, as on the pages."""
    names = {metric.name, metric.family}
    if metric.type == "counter":
        names.add(f"{metric.family}_total")
    return any(fnmatchcase(one, name) for one in names) if is_glob(name) else name in names


def metric_table(name: str) -> str:
    """How [metric.NAME] is written: in TOML a glob needs quotes."""
    return f'[metric."{name}"]' if is_glob(name) else f"[metric.{name}]"


def _split_source(table: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    common_names = {one.name.rstrip("_") for one in dataclasses.fields(SourceConfig)}
    common = {name: value for name, value in table.items() if name in common_names}
    return common, {name: value for name, value in table.items() if name not in common_names}


def read_table(cls: type[T], table: Mapping[str, Any], where: str) -> T:
    """``table`` as the dataclass ``cls``, each key checked. A field ``class_`` stands for the key ``class``.

    Raises ConfigurationError that names ``where``, the key, the value and what would be right.
    """
    fields = {one.name.rstrip("_"): one for one in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name not in fields:
            raise _unknown(where, name, list(fields), "key")
        one = fields[name]
        values[one.name] = _checked(value, hints[one.name], one.metadata, f"{where} {name}")
    return cls(**values)


def _checked(value: Any, kind: Any, rule: Mapping[str, Any], where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin is tuple:
        inner = typing.get_args(kind)[0]
        if not isinstance(value, list):
            raise ConfigurationError(f"{where} is {value!r}; give a list, such as [{_example(inner)}]")
        return tuple(_checked(one, inner, rule, where) for one in value)
    if origin in (types.UnionType, typing.Union):
        return _checked(value, next(arg for arg in typing.get_args(kind) if arg is not type(None)), rule, where)
    if kind is float and type(value) is int and abs(value) < 1 << 53:
        value = float(value)
    if type(value) is not kind:
        names = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}
        raise ConfigurationError(f"{where} is {value!r}; give {names[kind]}, such as {_example(kind)}")
    low, high, choices = rule.get("low"), rule.get("high"), rule.get("choices")
    if low is not None and not low <= value <= rule["high"]:
        raise ConfigurationError(f"{where} is {value!r}; give a number from {low} to {high}. {rule['doc']}")
    if choices and value not in choices:
        raise ConfigurationError(f"{where} is {value!r}; give one of {', '.join(filter(None, choices))}")
    return value


def _example(kind: Any) -> str:
    return {str: '"text"', int: "15", float: "1.5", bool: "true"}[kind]


def _outside(path: Path, name: str, tables: Mapping[str, Any]) -> ConfigurationError:
    """For a key that stands above the first table, where there are none."""
    keys: dict[str, str] = {}
    for table, cls in tables.items():
        for one in dataclasses.fields(cls):
            keys.setdefault(one.name, table)
    close = _close(name, keys)
    if name in keys:
        hint = f"{name} is a key of [{keys[name]}]: write it below a line [{keys[name]}]"
    elif close:
        hint = f"did you mean {close[0]!r} of [{keys[close[0]]}]?"
    else:
        hint = f"the tables are {', '.join([*tables, *_NAMED])}"
    return ConfigurationError(f"{path} has the key {name!r} outside of any table; {hint}")


def _unknown(where: str, name: str, known: list[str], what: str) -> ConfigurationError:
    close = _close(name, known)
    elsewhere = [table for table, cls in _TABLES.items() if what == "key" and name in cls.__dataclass_fields__]
    if elsewhere:
        hint = f"{name} is a key of [{elsewhere[0]}]"
    else:
        hint = f"did you mean {close[0]!r}?" if close else f"the {what}s are {', '.join(known)}"
    return ConfigurationError(f"{where} has no {what} {name!r}; {hint}")


def _close(name: str, known: Iterable[str]) -> list[str]:
    """What may have been meant."""
    import difflib  # 170 KiB that a process whose configuration is right does without

    return difflib.get_close_matches(name, list(known), n=1)
