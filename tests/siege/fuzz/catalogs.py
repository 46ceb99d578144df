"""Catalog entries that no writer enters, with valid seals: JSON of every kind where strings and numbers belong."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterator
from typing import Final

from shm.catalog import entry
from shm.ring.layout import HEADER_BYTES, KIND_LIMIT, KIND_METRIC, KIND_SERIES, SLOT_HEADER_BYTES
from tests.siege.fuzz.mutations import HINT_FIELDS, SLOT_FIELDS, Mutation, Whole, put_word, reseal_slot, word

METRIC: Final = {"n": "forged", "t": "gauge", "h": "Forged.", "u": "", "l": [], "b": [], "o": 0}
HISTOGRAM: Final = {**METRIC, "n": "forged_histogram", "t": "histogram", "b": [1.0]}
SERIES: Final = {"m": 0, "v": [], "c": 0}
LIMIT: Final = {"n": "forged", "max": 1}
_TAKEN_NAMES: Final = (
    "shared", "level", "events_total", "latency", "latency_sum", "level_bucket", "middle_own", "_total",
)  # fmt: skip
_KINDS: Final = {KIND_METRIC: "metric", KIND_SERIES: "series", KIND_LIMIT: "limit"}

# As JSON text: some of it no serialiser writes.
_VALUES: Final = (
    "null", "true", "0", "-1", "1", "1e308", "1e999", "NaN", "-Infinity", "18446744073709551615", "1" + "0" * 400,
    "1" * 3000, '""', '"x"', '"' + "a" * 201 + '"', '"' + "a" * 2500 + '"', r'"\ud800"', r'"\u0000"', r'"a\nb 1"',
    '"é"', "[]", "{}", "[[]]", '["a","a"]', '["le"]', '["stat"]', '["quantile"]', '["__name__"]', '["a-b"]', "[1]",
    '["source"]', "[" * 1500 + "]" * 1500, '{"a":' * 500 + "1" + "}" * 500, "[1e999]", "[NaN]", "[2.0,1.0]",
    "[-1.0]", "[" + ",".join(map(str, range(65))) + "]", '"level"', '"events"', '"latency_bucket"', '"latency_count"',
    '"level_created"', '"_total"', '"counter"', '"histogram"', '"process_cpu_seconds_total"', '"exporter_build_info"',
    '"shared"',
)  # fmt: skip


def _text(fields: dict[str, object], key: str = "", value: str = "") -> bytes:
    parts = (f"{json.dumps(name)}:{value if name == key else json.dumps(one)}" for name, one in fields.items())
    return ("{" + ",".join(parts) + "}").encode()


def bodies(indices: list[int], columns: int) -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    """(name, entries to append as (kind, body)). ``indices``: of the metrics in the catalog."""
    for kind, honest in ((KIND_METRIC, METRIC), (KIND_METRIC, HISTOGRAM), (KIND_SERIES, SERIES), (KIND_LIMIT, LIMIT)):
        if honest is SERIES:
            fields: dict[str, object] = {**honest, "m": indices[0], "c": columns}
        else:
            fields = dict(honest)
        for key in fields:
            for value in _VALUES:
                # A series behind each metric, so that what passed as a metric also comes to a page.
                behind = [(KIND_SERIES, _text({"m": len(indices), "v": [], "c": columns}))]
                name = f"{_KINDS[kind]} {key} = {value[:30]}"
                yield name, [(kind, _text(fields, key, value)), *(behind if kind == KIND_METRIC else [])]
            without = {name: one for name, one in fields.items() if name != key}
            yield f"{_KINDS[kind]} without {key}", [(kind, _text(without))]
    for text in (*_VALUES, "", "{", '{"n":', "\x00", "\ufeff{}"):
        for kind in _KINDS:
            yield f"a {_KINDS[kind]} that is {text[:30]!r}", [(kind, text.encode())]
    for raw in (b"\xff\xfe\xfd", b"\xff\xfe{\x00}\x00", b"\xed\xa0\x80", b'{"n":"\xff"}'):
        for kind in _KINDS:
            yield f"a {_KINDS[kind]} of the bytes {raw!r}", [(kind, raw)]
    yield from _contradictions(indices, columns)


def _contradictions(indices: list[int], columns: int) -> Iterator[tuple[str, list[tuple[int, bytes]]]]:
    """Each entry is right by itself."""
    new = len(indices)

    def series(metric: int, values: list[str], column: int) -> tuple[int, bytes]:
        return KIND_SERIES, _text({"m": metric, "v": values, "c": column})

    for index in (-1, 1 << 31, 1 << 64, new, new + 1):
        yield f"series of metric {index}", [series(index, [], columns)]
    for column in (0, columns - 1, columns + 1, 1 << 31, 1 << 64):
        yield f"series in column {column}", [series(indices[0], ["x"], column)]
    yield "the same series twice", [series(indices[0], ["x"], columns), series(indices[0], ["x"], columns + 1)]
    for kind, bounds in (("gauge", []), ("counter", []), ("histogram", [1.0])):
        for name in _TAKEN_NAMES:
            metric = _text({**METRIC, "n": name, "t": kind, "b": bounds, "l": ["source"]})
            both = [(KIND_METRIC, metric), series(new, ["x"], columns)]
            yield f"{name} again, as a {kind}", both
            changed = {"t": "gauge", "b": []} if kind == "histogram" else {"t": "histogram", "b": [2.0]}
            again = KIND_METRIC, _text({**METRIC, "n": name, "l": ["source"], **changed})
            yield f"{name} as a {kind} and otherwise", [*both, again, series(new + 1, ["y"], columns + 1)]
    wide = _text({**HISTOGRAM, "b": [float(bound) for bound in range(64)]})
    yield "a histogram beyond the width", [(KIND_METRIC, wide), series(new, [], columns)]
    yield "kinds of a later release", [(4, b"anything"), ((1 << 32) - 1, b"")]


def forged_catalogs(whole: Whole, metrics: int, columns: int) -> Iterator[Mutation]:
    """Each of those behind the catalog's entries."""
    for name, behind in bodies(list(range(metrics)), columns):
        mutation = with_entries(whole, name, behind)
        if mutation is not None:
            yield mutation


def with_entries(
    whole: Whole, name: str, behind: list[tuple[int, bytes]], kind: str = "catalog entries sealed again"
) -> Mutation | None:
    """``whole`` with those entries behind its own; None where the catalog lacks room for them."""
    data = bytearray(whole.data)
    at = whole.used
    for entry_kind, body in behind:
        sealed = entry(entry_kind, body, at, whole.header.salt)
        if at + len(sealed) > whole.header.catalog_bytes:
            return None
        data[HEADER_BYTES + at : HEADER_BYTES + at + len(sealed)] = sealed
        at += len(sealed)
    put_word(data, HINT_FIELDS["catalog used"], at)
    # The newest frame gets a sample of every series that there may be now, so that a page shows them.
    newest, width = whole.header.slot_offset(word(data, HINT_FIELDS["head"])), whole.header.width
    put_word(data, newest + SLOT_FIELDS["count"], width)
    data[newest + SLOT_HEADER_BYTES : newest + whole.header.slot_bytes] = struct.pack(f"<{width}d", *range(width))
    reseal_slot(data, newest, whole.header.slot_bytes, whole.header.salt)
    return Mutation(kind, name, bytes(data), forged=True)


def random_catalogs(whole: Whole, metrics: int, columns: int, chance: random.Random, number: int) -> Iterator[Mutation]:
    """Two or three of those together."""
    known = [behind for _, behind in bodies(list(range(metrics)), columns)]
    for _ in range(number):
        several = [one for behind in chance.sample(known, chance.randrange(2, 4)) for one in behind]
        mutation = with_entries(whole, f"{len(several)} entries", several, "several entries sealed again")
        if mutation is not None:
            yield mutation
