"""Lines: a page rendered once except for its numbers.

Every line's bytes up to its number are made when the catalogs change; a scrape then is a gather, one call that
writes all numbers, and one that puts them in their places.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.exposition.format import fill, header, place_behind
from exporter.http.negotiation import Format
from shm.ring.frame import absent

_FORMATS = (Format.TEXT, Format.OPENMETRICS)

UNGUARDED: Final = -1
TEXT_ONLY: Final = -2

# A page is made in parts of so many lines, and sent in these: the numbers of one, and what they become, fit a cache.
# 100,000 lines take a quarter less time, and are in memory once.
_PART_LINES: Final = 4000
# Memory of a line beside its text, and how often its text is kept: alone, and in the templates of both formats.
_LINE_BYTES: Final = 200
_COPIES: Final = 5


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
        self.memory_bytes = 0  # of memory, about and at most
        self._index: list[int] = []
        self._family_of_line: list[int] = []
        self._guards: list[int] = []
        self._frozen: _Frozen | None = None
        self._whole: dict[Format, list[bytes]] = {}  # templates: of all lines,
        self._some: dict[Format, tuple[bytes, list[bytes]]] = {}  # and of the last other pattern

    def add_family(self, name: str, kind: str, help_text: str, unit: str, lines: Iterable[Line]) -> None:
        """Append a family; one without lines is left out."""
        before = len(self._index)
        for text, at, guard in lines:
            prefix = place_behind(f"\n{text} ".encode())
            self._prefixes.append(prefix)
            self.memory_bytes += _COPIES * len(prefix) + _LINE_BYTES
            self._index.append(at)
            self._guards.append(guard)
        if len(self._index) == before:
            return
        self._family_of_line.extend([len(self._headers[Format.TEXT])] * (len(self._index) - before))
        for form in _FORMATS:
            self._headers[form].append(header(name, kind, help_text, unit, form).encode())
        self._frozen = None
        self._whole.clear()

    def __len__(self) -> int:
        return len(self._index)

    def render(self, values: NDArray[np.float64], form: Format) -> bytes:
        """The page, see :meth:`parts`."""
        return b"".join(self.parts(values, form))

    def parts(self, values: NDArray[np.float64], form: Format) -> list[bytes]:
        """The page, in parts. ``values``: float64, shape (n,), where the lines' places point.

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
        if present.all():
            page = self._whole.get(form)
            if page is None:
                page = self._whole[form] = self._template(form, present, family_of_line)
            return _filled(page, picked)
        # Which samples are there changes seldom.
        pattern = present.tobytes()
        kept = self._some.get(form)
        if kept is None or kept[0] != pattern:
            self._some[form] = kept = pattern, self._template(form, present, family_of_line)
        return _filled(kept[1], picked[present])

    def _template(self, form: Format, present: NDArray[np.bool_], family_of_line: NDArray[np.intp]) -> list[bytes]:
        """The lines that are there, without their numbers, and before the first of a family its header."""
        lines = np.flatnonzero(present)
        families = family_of_line[lines]
        first = np.ones(len(lines), dtype=bool)
        first[1:] = families[1:] != families[:-1]
        headers = self._headers[form]
        found = [self._prefixes[line] for line in lines.tolist()]
        for at in np.flatnonzero(first).tolist():
            found[at] = b"\n" + headers[families[at]].replace(b"%", b"%%") + found[at][1:]
        if found:
            found[0] = found[0][1:]  # no line is before it
            found[-1] += b"\n"
        return [b"".join(found[at : at + _PART_LINES]) for at in range(0, len(found), _PART_LINES)]


def _filled(templates: list[bytes], values: NDArray[np.float64]) -> list[bytes]:
    return [
        fill(one, values[at : at + _PART_LINES])
        for one, at in zip(templates, range(0, len(values), _PART_LINES), strict=True)
    ]


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
