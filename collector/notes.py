"""Notes: settings of sources that are valid and have no effect."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

from collector import registry
from collector.settings import CollectorTables, SourceConfig
from collector.source import MetricSource
from fogmetrics.durations import parse_seconds
from fogmetrics.settings.reader import Directory, Glob, leaves, names, toml_key

# Marks of regular expressions that globs of such names do not have: anchors, escapes, alternatives, repetitions.
_REGEX: Final = re.compile(r"\A\^|\$\Z|\\|\||\{|\(\?|\[\^|[\])}.]\+|\.\.\Z")
# As a regular expression, any text. After a digit or a glob's own mark it is a glob: "eth0.*" and "*.*" are VLANs. In
# types it is one as well: "fuse.*".
_ANY_TEXT: Final = re.compile(r"(\A|[^\d*?\]])\.\*")


def source_notes(source: MetricSource, config: CollectorTables) -> list[str]:
    """Sentences that begin with the table, "[source.NAME] …": the source's own ``notes``, and those about its keys."""
    found = [*getattr(source, "notes", ()), *_without_effect(source, config)]
    if source.name in registry.BUILT_IN and (options := getattr(source, "options", None)) is not None:
        found += _regular_expressions(options, f"source.{source.name}")
        if not registry.why_source_off(source, config):
            found += _missing_directories(options, f"source.{source.name}")
    return found


def _without_effect(source: MetricSource, config: CollectorTables) -> Iterator[str]:
    name = source.name
    table = config.source.get(name, SourceConfig())
    where = f"[source.{toml_key(name)}]"
    if (off := registry.why_source_off(source, config)) and (
        keys := [one for one in table.options if not names([off], one)]
    ):
        yield f"{where} {', '.join(keys)} without effect, since the source is off: {off}"
    timeout = registry.times(name, config)[1]
    for key, value in table.options.items():
        if name in registry.BUILT_IN and key.endswith(registry.REQUEST):
            given, used = parse_seconds(str(value)), registry.REQUEST_SHARE * timeout
            if used < given:
                yield (
                    f"{where} {key} is {given:g}, but {used:g} is used, {registry.REQUEST_SHARE:.0%} of the "
                    f"collection's {timeout:g} s; lower it, or raise timeout_seconds"
                )


def _missing_directories(options: object, table: str) -> Iterator[str]:
    for inner, key, kind, value in leaves(options, table):
        if kind == Directory and value and not os.path.isdir(value):
            yield f"[{inner}] {key} is {value!r}, which is not a directory now; make it, or give another path"


def _regular_expressions(options: object, table: str) -> Iterator[str]:
    for inner, key, kind, value in leaves(options, table):
        if kind == Glob and (_REGEX.search(value) or (key != "filesystem_exclude_types" and _ANY_TEXT.search(value))):
            yield (
                f"[{inner}] {key} has {value!r}, which looks like a regular expression; give a glob, which fits whole "
                'names and in which *, ? and [] are special, such as "lo" or "veth*"'
            )
