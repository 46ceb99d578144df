"""Reads a TOML table into a frozen dataclass. Each field is a key, with its description and bounds.

    @dataclass(frozen=True, slots=True)
    class QueueOptions:
        directory: str = key("/var/spool/jobs", "Directory that is counted.")
        depth: int = key(10, "Directories below it that are counted, too.", low=0, high=100)
        shelf: Mapping[str, ShelfOptions] = key({}, "Parts with keys of their own.")

    read_table(QueueOptions, tomllib.loads(text)["queue"], Where("fog.toml", "queue"))

A field is a str, int, float, bool, Glob, Directory or Seconds (fogmetrics.durations); ``X | None``;
``X | tuple[X, ...]``, one or a list; another such dataclass, which is the table [queue.FIELD]; ``tuple[X, ...]``, a
list; or ``Mapping[str, X]``, whose names the user chooses: they are the keys of one table [queue.FIELD], or of tables
[queue.FIELD.NAME] where X is a dataclass. A field ``class_`` is the key ``class``.

ConfigurationError has a message for each mistake, which names file, table, key, value and remedy. Unknown keys are
mistakes too: a misspelt key that was ignored would go unnoticed until its data is missing. To go on after mistakes,
``read_partly`` adds their messages to a list, and returns the dataclass with the defaults of the keys concerned.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, time
from typing import Annotated, Any, NamedTuple, TypeVar

from fogmetrics.durations import Seconds, parse_seconds, written
from shm.errors import ConfigurationError
from shm.safe_repr import shown

T = TypeVar("T")

# The type of a key that is a glob: *, ? and [] are special, and it fits whole names.
Glob = Annotated[str, "glob"]
# The type of a key that is a directory of this host, which may be missing yet.
Directory = Annotated[str, "directory"]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_KINDS: Mapping[Any, tuple[str, str]] = {  # by type: its name in messages, and an example
    str: ("a string", '"text"'),
    int: ("a whole number", "15"),
    float: ("a number", "1.5"),
    bool: ("true or false", "true"),
    Glob: ("a string", '"text"'),
    Directory: ("a string", '"/path"'),
    Seconds: ("a duration", '15, "15s" or "1h30m"'),
}
_MOST_WHOLE = 1 << 53  # up to here float64 holds every whole number


def key(
    default: Any,
    doc: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    removed: Mapping[str, str] | None = None,
) -> Any:
    """A key of a table: its default, its description in one sentence, its bounds (inclusive) or choices.

    ``removed``: former choices, each with the end of the message that refuses it.
    """
    metadata = {"doc": doc, "low": low, "high": high, "choices": choices, "removed": removed or {}}
    if isinstance(default, dict):
        return dataclasses.field(default_factory=default.copy, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def other_keys() -> Any:
    """A field that collects all unknown keys in a mapping, unchecked."""
    return dataclasses.field(default_factory=dict, metadata={"other_keys": True})


class Where(NamedTuple):
    """A table of a file, for messages; ``table`` is empty for the file as a whole."""

    file: str
    table: str = ""

    def __str__(self) -> str:
        return f"{self.file}: [{self.table}]" if self.table else self.file

    def key(self, name: str) -> str:
        return f"{self.file}: {name}" if not self.table else f"{self} {name}"

    def inner(self, name: str) -> Where:
        """The table ``name`` in this one."""
        return Where(self.file, f"{self.table}.{toml_key(name)}".lstrip("."))


def names(messages: Iterable[str], key: str) -> bool:
    """Whether one of the messages names that key."""
    return any(re.search(rf"\b{key.rstrip('_')}\b", one) for one in messages)


def mistakes_of(check: Callable[..., object], *arguments: Any) -> tuple[str, ...]:
    """The messages of the ConfigurationError that ``check(*arguments)`` raises; none if it does not."""
    try:
        check(*arguments)
    except ConfigurationError as error:
        return error.args
    return ()


def toml_key(name: str) -> str:
    """The name as written in TOML, in quotes if necessary."""
    return name if _BARE_KEY.match(name) else json.dumps(name, ensure_ascii=False)


def keys_of(cls: Any) -> dict[str, dataclasses.Field[Any]]:
    """The keys of a table's dataclass, in order."""
    return {one.name.rstrip("_"): one for one in dataclasses.fields(cls) if "doc" in one.metadata}


def leaves(table: Any, name: str) -> Iterator[tuple[str, str, Any, Any]]:
    """(name of its table, key, kind, value) of each value that is no table, in the dataclass ``table`` and those in it.

    A list gives each of its values, and a mapping each of its own, by their keys.
    """
    hints = typing.get_type_hints(type(table), include_extras=True)
    for key_name, one in keys_of(type(table)).items():
        yield from _leaves(getattr(table, one.name), hints[one.name], name, key_name)


def _leaves(value: Any, kind: Any, table: str, name: str) -> Iterator[tuple[str, str, Any, Any]]:
    of = typing.get_args(kind)
    inner = f"{table}.{toml_key(name)}"
    if dataclasses.is_dataclass(value):
        yield from leaves(value, inner)
    elif isinstance(value, Mapping):
        for one, each in value.items():
            yield from _leaves(each, of[1], inner, one)
    elif isinstance(value, tuple):
        for each in value:
            yield from _leaves(each, of[0], table, name)
    else:
        yield table, name, kind, value


def read_table(cls: type[T], table: Mapping[str, Any], where: Where, root: type | None = None, **fields: Any) -> T:
    """Check each key of ``table`` and return it as the dataclass ``cls``. Raises ConfigurationError.

    ``root``: the dataclass of the whole file, to find the table of a misplaced key for messages. ``fields``: values of
    fields that are not keys.
    """
    mistakes: list[str] = []
    found = read_partly(cls, table, where, mistakes, root, **fields)
    if mistakes:
        raise ConfigurationError(*mistakes)
    return found


def read_partly(
    cls: type[T], table: Mapping[str, Any], where: Where, mistakes: list[str], root: type | None = None,
    others: Iterable[str] = (), **fields: Any,
) -> T:  # fmt: skip
    """read_table() that never raises: a key with a mistake keeps its default, and ``mistakes`` gets the message.

    ``others``: keys of the same table that are read elsewhere.
    """
    keys, hints = keys_of(cls), typing.get_type_hints(cls, include_extras=True)
    table_class: Any = cls
    rest = next((one.name for one in dataclasses.fields(table_class) if "other_keys" in one.metadata), None)
    values = dict(fields)
    for name, value in table.items():
        if name in keys:
            one = keys[name]
            try:
                values[one.name] = _checked(value, hints[one.name], one.metadata, where, name, mistakes, root)
            except ConfigurationError as error:
                mistakes.extend(error.args)
        elif rest is not None:
            values.setdefault(rest, {})[name] = value
        else:
            mistakes.append(_unknown(name, value, [*keys, *others], where, root))
    try:
        return cls(**values)
    except ConfigurationError as error:  # from __post_init__, which does not know the file
        mistakes.extend(f"{where.file}: {one}" for one in error.args)
        return cls(**{name: value for name, value in values.items() if not names(error.args, name)})


def _checked(
    value: Any, kind: Any, rule: Mapping[str, Any], where: Where, name: str, mistakes: list[str], root: type | None
) -> Any:
    """The value of a key. Raises ConfigurationError; mistakes inside of a table are only noted."""
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        listed = isinstance(value, list)
        kinds = [one for one in of if one is not types.NoneType]
        kind = next((one for one in kinds if listed and typing.get_origin(one) is tuple), kinds[0])
        return _checked(value, kind, rule, where, name, mistakes, root)
    inner = where.inner(name)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ConfigurationError(f"{where.key(name)} is {shown(value)}; make it a table: [{inner.table}]")
        return read_partly(typing.cast(type, kind), value, inner, mistakes, root)
    if origin is Mapping:
        if not isinstance(value, dict):
            table = f"{inner.table}.NAME" if dataclasses.is_dataclass(of[1]) else inner.table
            raise ConfigurationError(f"{where.key(name)} is {shown(value)}; make it a table: [{table}]")
        return dict(_each(((one, each, inner, one) for one, each in value.items()), of[1], rule, mistakes, root))
    if origin is tuple:
        if not isinstance(value, list):
            example = "{name = VALUE}" if dataclasses.is_dataclass(of[0]) else _KINDS[of[0]][1]
            raise ConfigurationError(f"{where.key(name)} is {shown(value)}; give a list, such as [{example}]")
        each_one, before = ((number, one, where, name) for number, one in enumerate(value)), len(mistakes)
        found = tuple(one for _, one in _each(each_one, of[0], rule, mistakes, root))
        if len(mistakes) > before:
            raise ConfigurationError  # without a further message: the key keeps its default
        return found
    return _scalar(value, str if kind in (Glob, Directory) else kind, rule, where.key(name))


def _each(
    values: Iterable[tuple[Any, Any, Where, str]], kind: Any, rule: Mapping[str, Any], mistakes: list[str],
    root: type | None,
) -> Iterator[tuple[Any, Any]]:  # fmt: skip
    """(key, checked value) of each (key, value, table, name in messages), without those that have mistakes."""
    for one, value, where, name in values:
        try:
            yield one, _checked(value, kind, rule, where, name, mistakes, root)
        except ConfigurationError as error:
            mistakes.extend(error.args)


def _scalar(given: Any, kind: Any, rule: Mapping[str, Any], what: str) -> Any:
    value, of_float = given, kind in (float, Seconds)
    if kind == Seconds and isinstance(given, str):
        with contextlib.suppress(ValueError):  # else it stays a text, and is refused below
            value = parse_seconds(given)
    if of_float and type(value) is int and abs(value) < _MOST_WHOLE:
        value = float(value)
    low, high, choices = rule["low"], rule["high"], rule["choices"]
    if type(value) is not (float if of_float else kind):
        kind_name, example = _KINDS[kind]
        wanted = f"one of {', '.join(filter(None, choices))}" if choices else f"{kind_name}, such as {example}"
        # A bool or a date as it is in the file.
        text = str(given).lower() if isinstance(given, bool | date | time) else shown(given)
        raise ConfigurationError(f"{what} is {text}; give {wanted}")
    if kind is str and "\0" in given:
        raise ConfigurationError(f"{what} is {shown(given)}, which has a NUL; remove it")
    if low is not None and not low <= value <= high:
        if kind == Seconds:
            bounds = f"a duration from {written(low)} to {written(high)}"
        else:
            bounds = f"a number from {low} to {high}"
        raise ConfigurationError(f"{what} is {shown(given)}; give {bounds}. {rule['doc']}")
    if choices and value not in choices:
        if value in rule["removed"]:
            raise ConfigurationError(f"{what} is {value!r}, {rule['removed'][value]}")
        raise ConfigurationError(f"{what} is {shown(value)}; give one of {', '.join(filter(None, choices))}")
    return value


def unknown_key(name: str, keys: Iterable[str], where: Where, homes: Mapping[str, str]) -> str:
    """The message of a key that the table ``where`` does not have. ``homes``: the tables of keys of other tables."""
    if name in homes:
        hint = f"{name} is a key of [{homes[name]}]"
    elif close := close_to(name, keys):
        hint = f"did you mean {close!r}?"
    else:
        hint = f"the {'keys' if where.table else 'tables'} are {', '.join(keys)}"
    return f"{where} has no {'key' if where.table else 'table'} {name!r}; {hint}"


def _unknown(name: str, value: Any, keys: Iterable[str], where: Where, root: type | None) -> str:
    """The message of a key or table that does not exist."""
    tables = {
        one: hint
        for one, hint in (typing.get_type_hints(root) if root else {}).items()
        if dataclasses.is_dataclass(hint)
    }
    homes = {one: table for table, cls in reversed(tables.items()) for one in keys_of(cls)}
    if where.table or isinstance(value, dict):
        return unknown_key(name, keys, where, homes if where.table else {})
    if name in homes:
        hint = f"{name} is a key of [{homes[name]}]: write it below a line [{homes[name]}]"
    elif close := close_to(name, homes):
        hint = f"did you mean {close!r} of [{homes[close]}]?"
    else:
        hint = f"the tables are {', '.join(keys)}"
    return f"{where} has the key {name!r} outside of any table; {hint}"


def close_to(name: str, known: Iterable[str]) -> str:
    """The known name that is close to a misspelt one; empty if none is."""
    import difflib  # imported only for a misspelt key

    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")
