"""Lines: a page rendered once except for its numbers.

Every line's bytes up to its number are made when the catalogs change; a scrape then is a gather, one call that
formats all numbers, and one join.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.negotiation import Format
from exporter.snapshot import absent
from exporter.text import header, join

_FORMATS = (Format.TEXT, Format.OPENMETRICS)

UNGUARDED: Final = -1
TEXT_ONLY: Final = -2


class Line(NamedTuple):
    """``text``: sample name and labels; ``at``: the place of its value in the vector.

    OpenMetrics forbids what a ring may hold: a total, a bucket, a sum that is NaN or below 0. Its page leaves out
    the lines whose ``guard``, the place of the value to look at, has one; and those that are TEXT_ONLY.
    """

    text: str
    at: int
    guard: int = UNGUARDED


class Lines:
    """Collects the families of a page; ``render`` then turns a vector of values into its text."""

    def __init__(self) -> None:
        self._prefixes: list[bytes] = []
        self._headers: dict[Format, list[bytes]] = {form: [] for form in _FORMATS}
        self._index: list[int] = []
        self._family_of_line: list[int] = []
        self._guards: list[int] = []
        self._frozen: _Frozen | None = None
        self._chosen: dict[Format, tuple[bytes, list[bytes]]] = {}

    def add_family(self, name: str, kind: str, help_text: str, unit: str, lines: Iterable[Line]) -> None:
        """Append a family; one without lines is left out."""
        before = len(self._index)
        for text, at, guard in lines:
            self._prefixes.append(f"\n{text} ".encode())
            self._index.append(at)
            self._guards.append(guard)
        if len(self._index) == before:
            return
        self._family_of_line.extend([len(self._headers[Format.TEXT])] * (len(self._index) - before))
        for form in _FORMATS:
            self._headers[form].append(header(name, kind, help_text, unit, form).encode())
        self._frozen = None

    def __len__(self) -> int:
        return len(self._index)

    def render(self, values: NDArray[np.float64], form: Format) -> bytes:
        """The page. ``values``: float64, shape (n,), where the lines' places point.

        An absent sample has no line, a family without samples no header.
        """
        if self._frozen is None:
            self._frozen = _frozen(self._index, self._family_of_line, self._guards)
        places, family_of_line, guarded, guards, text_only = self._frozen
        picked = values[places]
        present = ~absent(picked)
        if form is Format.OPENMETRICS:
            with np.errstate(invalid="ignore"):
                present[guarded] &= values[guards] >= 0
            present[text_only] = False
        prefixes = self._present_prefixes(form, present, family_of_line)
        return join(prefixes, picked if len(prefixes) == len(picked) else picked[present])

    def _present_prefixes(
        self, form: Format, present: NDArray[np.bool_], family_of_line: NDArray[np.intp]
    ) -> list[bytes]:
        """The prefixes of the lines that are there, with the family's header before its first one.

        Which samples are there changes seldom: the last pattern of each format is kept.
        """
        pattern = present.tobytes()
        kept = self._chosen.get(form)
        if kept is not None and kept[0] == pattern:
            return kept[1]
        lines = np.flatnonzero(present)
        families = family_of_line[lines]
        first = np.ones(len(lines), dtype=bool)
        first[1:] = families[1:] != families[:-1]
        headers = self._headers[form]
        found = [self._prefixes[line] for line in lines.tolist()]
        for at in np.flatnonzero(first).tolist():
            found[at] = b"\n" + headers[families[at]] + found[at][1:]
        if found:
            found[0] = found[0][1:]  # no line is before it
        self._chosen[form] = pattern, found
        return found


class _Frozen(NamedTuple):
    places: NDArray[np.intp]  # shape (lines,): where the vector has the line's value
    family_of_line: NDArray[np.intp]  # shape (lines,)
    guarded: NDArray[np.intp]  # the lines with a guard
    guards: NDArray[np.intp]  # where the vector has it
    text_only: NDArray[np.intp]  # the lines that OpenMetrics never has


def _frozen(index: list[int], family_of_line: list[int], guards: list[int]) -> _Frozen:
    guard = np.array(guards, dtype=np.intp)
    guarded = np.flatnonzero(guard >= 0)
    return _Frozen(
        np.array(index, dtype=np.intp),
        np.array(family_of_line, dtype=np.intp),
        guarded,
        guard[guarded],
        np.flatnonzero(guard == TEXT_ONLY),
    )
