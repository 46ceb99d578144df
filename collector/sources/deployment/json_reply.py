"""What a provider answers in JSON, read within bounds: how much memory a document takes is not its sender's to say.

json.loads builds all of a document before anybody looks at it. What it builds is counted before, by the characters that
each object, list and value must have; those within strings count as well, which errs on the safe side.
"""

from __future__ import annotations

import json
import math
from typing import Any, Final, NoReturn

from shm.safe_repr import shown

# Each object and list takes up to 200 bytes, each value up to 64, however few of the answer's. 3,000 containers, as
# the engine describes them, have 40,000 of the one and 100,000 of the other within 4 MiB.
MAX_CONTAINERS: Final = 50_000
MAX_VALUES: Final = 150_000
# Counts are of 64 bits at most.
MAX_COUNT: Final = 2**64 - 1
_BEGIN_CHARACTERS: Final = 60


def parse_json(body: bytes) -> Any:
    """The document that ``body`` holds, in UTF-8. Raises ValueError, which words what is wrong with "its answer"."""
    if body.count(b"{") + body.count(b"[") > MAX_CONTAINERS:
        raise ValueError(f"its answer is JSON of more than {MAX_CONTAINERS} objects and lists")
    if body.count(b",") + body.count(b":") > MAX_VALUES:
        raise ValueError(f"its answer is JSON of more than {MAX_VALUES} values")
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_reject)
    except RecursionError:
        raise ValueError("its answer is JSON that is nested too deep") from None
    except ValueError as error:  # no JSON, no Unicode, NaN, or an integer of more digits than Python reads
        begin = body[:_BEGIN_CHARACTERS].decode("utf-8", "replace")
        raise ValueError(f"its answer is no JSON ({error!s:.100}): {begin!r}") from None


def objects(document: object) -> list[dict[str, Any]]:
    """The document, where it is a list of objects. Raises ValueError."""
    if not isinstance(document, list):
        raise ValueError(f"its answer is not a list but {shown(document)}")
    for one in document:
        if not isinstance(one, dict):
            raise ValueError(f"its answer is not a list of objects: it has {shown(one)}")
    return document


def count(value: object) -> int | None:
    """``value`` as a whole number from 0 to 2^64 - 1; None for anything else, true and false included."""
    if isinstance(value, float) and math.isfinite(value) and value == int(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if 0 <= value <= MAX_COUNT else None


def _reject(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
