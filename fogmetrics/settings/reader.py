"""Reads a TOML table into a frozen dataclass. Each field is a key, with its description and bounds.

    @dataclass(frozen=True, slots=True)
    class QueueOptions:
        directory: str = key("/var/spool/jobs", "Directory that is counted.")
        depth: int = key(10, "Directories below it that are counted, too.", low=0, high=100)
        shelf: Mapping[str, ShelfOptions] = key({}, "Parts with keys of their own.")

    read_table(QueueOptions, tomllib.loads(text)["queue"], Where("fog.toml", "queue"))

A field is a str, int, float or bool; ``X | None``; ``X | tuple[X, ...]``, one or a list; another such dataclass, which
is the table [queue.FIELD]; ``tuple[X, ...]``, a list; or ``Mapping[str, X]``, whose names the user chooses: they are
the keys of one table [queue.FIELD], or of tables [queue.FIELD.NAME] where X is a dataclass. A field ``class_`` is the
key ``class``.

A mistake raises ConfigurationError, which names file, table, key, value and remedy. Unknown keys are mistakes too: a
misspelt key that was ignored would go unnoticed until its data is missing.
"""

from __future__ import annotations

import dataclasses
import json
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from shm.errors import ConfigurationError

T = TypeVar("T")

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+\Z")
_KINDS: Mapping[Any, tuple[str, str]] = {  # by type: its name in messages, and an example
    str: ("a string", '"text"'),
    int: ("a whole number", "15"),
    float: ("a number", "1.5"),
    bool: ("true or false", "true"),
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


def toml_key(name: str) -> str:
    """The name as written in TOML, in quotes if necessary."""
    return name if _BARE_KEY.match(name) else json.dumps(name, ensure_ascii=False)


def keys_of(cls: Any) -> dict[str, dataclasses.Field[Any]]:
    """The keys of a table's dataclass, in order."""
    return {one.name.rstrip("_"): one for one in dataclasses.fields(cls) if "doc" in one.metadata}


def read_table(cls: type[T], table: Mapping[str, Any], where: Where, root: type | None = None, **fields: Any) -> T:
    """Check each key of ``table`` and return it as the dataclass ``cls``. Raises ConfigurationError.

    ``root``: the dataclass of the whole file, to find the table of a misplaced key for messages. ``fields``: values of
    fields that are not keys.
    """
    keys, hints = keys_of(cls), typing.get_type_hints(cls)
    table_class: Any = cls
    rest = next((one.name for one in dataclasses.fields(table_class) if "other_keys" in one.metadata), None)
    values = fields
    for name, value in table.items():
        if name in keys:
            one = keys[name]
            values[one.name] = _checked(value, hints[one.name], one.metadata, where, name, root)
        elif rest is not None:
            values.setdefault(rest, {})[name] = value
        else:
            raise _unknown(name, value, keys, where, root)
    return cls(**values)


def _checked(value: Any, kind: Any, rule: Mapping[str, Any], where: Where, name: str, root: type | None) -> Any:
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        listed = isinstance(value, list)
        kinds = [one for one in of if one is not types.NoneType]
        kind = next((one for one in kinds if listed and typing.get_origin(one) is tuple), kinds[0])
        return _checked(value, kind, rule, where, name, root)
    inner = where.inner(name)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise ConfigurationError(f"{where.key(name)} is {value!r}; make it a table: [{inner.table}]")
        return read_table(typing.cast(type, kind), value, inner, root)
    if origin is Mapping:
        if not isinstance(value, dict):
            written = f"{inner.table}.NAME" if dataclasses.is_dataclass(of[1]) else inner.table
            raise ConfigurationError(f"{where.key(name)} is {value!r}; make it a table: [{written}]")
        return {one: _checked(each, of[1], rule, inner, one, root) for one, each in value.items()}
    if origin is tuple:
        if not isinstance(value, list):
            example = "{name = VALUE}" if dataclasses.is_dataclass(of[0]) else _KINDS[of[0]][1]
            raise ConfigurationError(f"{where.key(name)} is {value!r}; give a list, such as [{example}]")
        return tuple(_checked(one, of[0], rule, where, name, root) for one in value)
    return _scalar(value, kind, rule, where.key(name))


def _scalar(value: Any, kind: Any, rule: Mapping[str, Any], what: str) -> Any:
    if kind is float and type(value) is int and abs(value) < _MOST_WHOLE:
        value = float(value)
    if type(value) is not kind:
        kind_name, example = _KINDS[kind]
        raise ConfigurationError(f"{what} is {value!r}; give {kind_name}, such as {example}")
    low, high, choices = rule["low"], rule["high"], rule["choices"]
    if low is not None and not low <= value <= high:
        raise ConfigurationError(f"{what} is {value!r}; give a number from {low} to {high}. {rule['doc']}")
    if choices and value not in choices:
        if value in rule["removed"]:
            raise ConfigurationError(f"{what} is {value!r}, {rule['removed'][value]}")
        raise ConfigurationError(f"{what} is {value!r}; give one of {', '.join(filter(None, choices))}")
    return value


def _unknown(
    name: str, value: Any, keys: Mapping[str, Any], where: Where, root: type | None
) -> ConfigurationError:  # fmt: skip
    tables = {
        one: hint
        for one, hint in (typing.get_type_hints(root) if root else {}).items()
        if dataclasses.is_dataclass(hint)
    }
    homes = {one: table for table, cls in reversed(tables.items()) for one in keys_of(cls)}
    if where.table or isinstance(value, dict):
        what = "key" if where.table else "table"
        if where.table and name in homes:
            hint = f"{name} is a key of [{homes[name]}]"
        elif close := _close(name, keys):
            hint = f"did you mean {close!r}?"
        else:
            hint = f"the {what}s are {', '.join(keys)}"
        return ConfigurationError(f"{where} has no {what} {name!r}; {hint}")
    if name in homes:
        hint = f"{name} is a key of [{homes[name]}]: write it below a line [{homes[name]}]"
    elif close := _close(name, homes):
        hint = f"did you mean {close!r} of [{homes[close]}]?"
    else:
        hint = f"the tables are {', '.join(keys)}"
    return ConfigurationError(f"{where} has the key {name!r} outside of any table; {hint}")


def _close(name: str, known: Iterable[str]) -> str:
    """The known name that is close to a misspelt one; empty if none is."""
    import difflib  # imported only for a misspelt key

    return next(iter(difflib.get_close_matches(name, list(known), n=1)), "")
