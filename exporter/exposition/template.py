"""Page templates: all text of a page except its numbers, prepared once per layout.

Each line up to its number is made when the catalogs change. A scrape then picks the values, formats them in one call
and inserts them in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from exporter.exposition.format import header, numbers, timestamps
from exporter.exposition.names import Escaping, is_classic, is_classic_label, series_text
from exporter.http.negotiation import Format
from shm.metric import label_set
from shm.ring.frame import absent

UNGUARDED: Final = -1
TEXT_ONLY: Final = -2

# A page is made in parts of so many lines: the values of one part and their text fit the processor's cache. A page of
# 100,000 lines takes a quarter less time.
_PART_LINES: Final = 4000
# Memory of a line besides its text, and the number of copies of its text: alone, and in the templates of both formats.
_LINE_BYTES: Final = 200
_COPIES: Final = 3


class Line(NamedTuple):
    """One sample of a family. ``ending``: of its name, after the family's; ``timed``: it has a timestamp.

    ``at``: the index of its value in the vector.

    OpenMetrics forbids totals, buckets and sums that are NaN or below 0, which a ring may hold. Its page omits lines
    whose ``guard``, an index in the vector, has such a value, and lines whose guard is TEXT_ONLY.
    """

    ending: str
    labels: Sequence[tuple[str, str]]
    at: int
    guard: int = UNGUARDED
    timed: bool = False


class FamilyLines(NamedTuple):
    """A family of a page; without lines, it is not on the page. The ``name`` of a counter has no ``_total``."""

    name: str
    kind: str
    help: str
    unit: str
    lines: Iterable[Line]


class Lines:
    """The lines of a page; renders vectors of values as text."""

    def __init__(self, families: Iterable[FamilyLines] = ()) -> None:
        self._prefixes: list[bytes] = []
        self._headers: dict[Format, list[bytes]] = {form: [] for form in Format}
        self._escaping = Escaping.UNDERSCORES  # in _prefixes and _headers
        self._beyond: list[tuple[int, int, FamilyLines]] = []  # families with names that are not classic
        self.memory_bytes = 0  # an upper estimate
        index: list[int] = []
        guards: list[int] = []
        all_timed: list[bool] = []
        family_of_line: list[int] = []
        for number, (name, kind, help_text, unit, lines) in enumerate(families):
            for form, headers in self._headers.items():
                headers.append(header(name, kind, help_text, unit, form).encode())
            first, kept, classic = len(self._prefixes), list(lines), is_classic(name)
            for ending, labels, at, guard, timed in kept:
                prefix = _prefix(f"{name}{ending}{label_set(labels)}")
                self._prefixes.append(prefix)
                self.memory_bytes += _COPIES * len(prefix) + _LINE_BYTES
                index.append(at)
                guards.append(guard)
                all_timed.append(timed)
                family_of_line.append(number)
                classic = classic and all(is_classic_label(label) for label, _ in labels)
            if not classic:
                self._beyond.append((number, first, FamilyLines(name, kind, help_text, unit, kept)))
        self._write_names(Escaping.UNDERSCORES)
        self._at = np.array(index, dtype=np.intp)
        self._family_of_line = np.array(family_of_line, dtype=np.intp)
        guard_of_line = np.array(guards, dtype=np.intp)
        self._guarded = np.flatnonzero(guard_of_line >= 0)
        self._guards = guard_of_line[self._guarded]
        self._text_only = np.flatnonzero(guard_of_line == TEXT_ONLY)
        self._timed = np.array(all_timed, dtype=bool)
        # For the last set of present samples, and the last scheme of names.
        self._templates: dict[Format, tuple[tuple[bytes, Escaping], list[bytes]]] = {}

    def _write_names(self, escaping: Escaping) -> None:
        """Write the names that are not classic by that scheme."""
        self._escaping = escaping
        for number, first, (name, kind, help_text, unit, lines) in self._beyond:
            for form, headers in self._headers.items():
                headers[number] = header(name, kind, help_text, unit, form, escaping).encode()
            for at, line in enumerate(lines, first):
                self._prefixes[at] = _prefix(series_text(name, kind, line.ending, line.labels, escaping))

    def parts(
        self,
        values: NDArray[np.float64],
        form: Format,
        times_ms: NDArray[np.int64] | None = None,
        escaping: Escaping = Escaping.UNDERSCORES,
    ) -> list[bytes]:
        """The page, in parts. ``values``: float64, shape (n,), indexed by ``Line.at`` and ``Line.guard``.

        ``times_ms``: shape (n,), Unix milliseconds, 0 for values without a time. An absent sample has no line, a family
        without samples no header.
        """
        picked = values[self._at]
        present = ~absent(picked)
        if form is Format.OPENMETRICS:
            with np.errstate(invalid="ignore"):
                present[self._guarded] &= values[self._guards] >= 0
            present[self._text_only] = False
        if self._beyond and escaping is not self._escaping:
            self._write_names(escaping)
        # The set of present samples seldom changes.
        pattern = present.tobytes(), self._escaping
        kept = self._templates.get(form)
        if kept is None or kept[0] != pattern:
            self._templates[form] = kept = pattern, self._template(form, present)
        picked = picked[present]
        written = numbers(picked)
        if times_ms is not None and self._timed.any():
            times = timestamps((times_ms[self._at] * self._timed)[present], form)
            written = [number + time for number, time in zip(written, times, strict=True)]
        # One formatting of one bytes object takes 40 % of the time of joining as many separate prefixes and numbers.
        return [
            template % tuple(written[at : at + _PART_LINES])
            for template, at in zip(kept[1], range(0, len(picked), _PART_LINES), strict=True)
        ]

    def _template(self, form: Format, present: NDArray[np.bool_]) -> list[bytes]:
        """The lines of present samples with placeholders for numbers, and a header before the first of each family."""
        lines = np.flatnonzero(present)
        families = self._family_of_line[lines]
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


def _prefix(text: str) -> bytes:
    """A line up to its number, and the placeholder for that, %b."""
    return f"\n{text} ".encode().replace(b"%", b"%%") + b"%b"
