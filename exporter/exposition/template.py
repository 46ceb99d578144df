"""Page templates: all text of a page except its numbers, prepared once per layout.

Each line up to its number is made when the catalogs change. A scrape then picks the values, formats them in one call
and inserts them in another.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.exposition.format import fill, header, with_placeholder
from exporter.http.negotiation import Format
from shm.ring.frame import absent

_FORMATS = (Format.TEXT, Format.OPENMETRICS)

UNGUARDED: Final = -1
TEXT_ONLY: Final = -2

# A page is made in parts of so many lines: the values of one part and their text fit the processor's cache. A page of
# 100,000 lines takes a quarter less time.
_PART_LINES: Final = 4000
# Memory of a line besides its text, and the number of copies of its text: alone, and in the templates of both formats.
_LINE_BYTES: Final = 200
_COPIES: Final = 5


class Line(NamedTuple):
    """``text``: sample name and labels; ``at``: the index of its value in the vector.

    OpenMetrics forbids totals, buckets and sums that are NaN or below 0, which a ring may hold. Its page omits lines
    whose ``guard``, an index in the vector, has such a value, and lines whose guard is TEXT_ONLY.
    """

    text: str
    at: int
    guard: int = UNGUARDED


class Lines:
    """Collects the families of a page, then renders vectors of values as text."""

    def __init__(self) -> None:
        self._prefixes: list[bytes] = []
        self._headers: dict[Format, list[bytes]] = {form: [] for form in _FORMATS}
        self.memory_bytes = 0  # an upper estimate
        self._index: list[int] = []
        self._family_of_line: list[int] = []
        self._guards: list[int] = []
        self._frozen: _Frozen | None = None
        self._whole: dict[Format, list[bytes]] = {}  # templates with all lines,
        self._some: dict[Format, tuple[bytes, list[bytes]]] = {}  # and for the last other set of present samples

    def add_family(self, name: str, kind: str, help_text: str, unit: str, lines: Iterable[Line]) -> None:
        """Append a family; without lines, do nothing."""
        before = len(self._index)
        for text, at, guard in lines:
            prefix = with_placeholder(f"\n{text} ".encode())
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
        """The page as one piece, see :meth:`parts`."""
        return b"".join(self.parts(values, form))

    def parts(self, values: NDArray[np.float64], form: Format) -> list[bytes]:
        """The page, in parts. ``values``: float64, shape (n,), indexed by ``Line.at`` and ``Line.guard``.

        An absent sample has no line, a family without samples no header.
        """
        if self._frozen is None:
            self._frozen = _frozen(self._index, self._family_of_line, self._guards)
        at, family_of_line, guarded, guards, text_only = self._frozen
        picked = values[at]
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
        # The set of present samples seldom changes.
        pattern = present.tobytes()
        kept = self._some.get(form)
        if kept is None or kept[0] != pattern:
            self._some[form] = kept = pattern, self._template(form, present, family_of_line)
        return _filled(kept[1], picked[present])

    def _template(self, form: Format, present: NDArray[np.bool_], family_of_line: NDArray[np.intp]) -> list[bytes]:
        """The lines of present samples with placeholders for numbers, and a header before the first of each family."""
        lines = np.flatnonzero(present)
        families = family_of_line[lines]
        first = np.ones(len(lines), dtype=bool)
        first[1:] = families[1:] != families[:-1]
        headers = self._headers[form]
        found = [self._prefixes[line] for line in lines.tolist()]
        for at in np.flatnonzero(first).tolist():
            found[at] = b"\n" + headers[families[at]].replace(b"%", b"%%") + found[at][1:]
        if found:
            found[0] = found[0][1:]  # a page begins without a newline
            found[-1] += b"\n"
        return [b"".join(found[at : at + _PART_LINES]) for at in range(0, len(found), _PART_LINES)]


def _filled(templates: list[bytes], values: NDArray[np.float64]) -> list[bytes]:
    return [
        fill(one, values[at : at + _PART_LINES])
        for one, at in zip(templates, range(0, len(values), _PART_LINES), strict=True)
    ]


class _Frozen(NamedTuple):
    at: NDArray[np.intp]  # shape (lines,): index of the line's value in the vector
    family_of_line: NDArray[np.intp]  # shape (lines,)
    guarded: NDArray[np.intp]  # lines with a guard
    guards: NDArray[np.intp]  # index of that guard in the vector
    text_only: NDArray[np.intp]  # lines that OpenMetrics always omits


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
