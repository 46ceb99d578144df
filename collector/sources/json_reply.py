"""Parses JSON replies of other programs with bounded memory.

json.loads builds the whole document at once. So its objects, lists and values are counted before, by the characters
that each must have; such characters within strings are counted too, which errs on the safe side.
"""

from __future__ import annotations

import json
from typing import Any, Final, NoReturn

from shm.safe_repr import shown

# Each object and list takes up to 200 bytes of memory, each value up to 64. 3,000 containers of Docker have 40,000
# objects and lists and 100,000 values in 4 MiB.
MAX_CONTAINERS: Final = 50_000
MAX_VALUES: Final = 150_000
# Counts have 64 bits at most.
MAX_COUNT: Final = 2**64 - 1
_BEGIN_CHARACTERS: Final = 60


def parse_json(body: bytes) -> Any:
    """Parse ``body``. Raises ValueError with a message about "its answer"."""
    if body.count(b"{") + body.count(b"[") > MAX_CONTAINERS:
        raise ValueError(f"its answer is JSON of more than {MAX_CONTAINERS} objects and lists")
    if body.count(b",") + body.count(b":") > MAX_VALUES:
        raise ValueError(f"its answer is JSON of more than {MAX_VALUES} values")
    try:
        return json.loads(body, parse_constant=_reject)
    except RecursionError:
        raise ValueError("its answer is JSON that is nested too deep") from None
    except ValueError as error:  # not JSON, not Unicode, NaN, or an integer of more digits than Python reads
        begin = body[:_BEGIN_CHARACTERS].decode("utf-8", "replace")
        raise ValueError(f"its answer is not JSON ({error!s:.100}): {begin!r}") from None


def objects(document: object) -> list[dict[str, Any]]:
    """Check that ``document`` is a list of objects. Raises ValueError."""
    if not isinstance(document, list):
        raise ValueError(f"its answer is not a list but {shown(document)}")
    for one in document:
        if not isinstance(one, dict):
            raise ValueError(f"its answer is not a list of objects: it has {shown(one)}")
    return document


def count(value: object) -> int | None:
    """``value`` as a whole number from 0 to 2^64 - 1; None for anything else, true and false included."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_COUNT else None


def _reject(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
