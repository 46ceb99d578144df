"""Lines: a page rendered once except for its numbers.

Every line's bytes up to its number are made when the catalogs change; a scrape then is a gather, one call that
formats all numbers, and one join.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from exporter.negotiation import Format
from exporter.snapshot import absent
from exporter.text import header, join

_FORMATS = (Format.TEXT, Format.OPENMETRICS)


class Lines:
    """Collects the families of a page; ``render`` then turns a vector of values into its text."""

    def __init__(self) -> None:
        self._prefixes: list[bytes] = []
        self._headers: dict[Format, list[bytes]] = {form: [] for form in _FORMATS}
        self._index: list[int] = []
        self._family_of_line: list[int] = []
        self._frozen: tuple[NDArray[np.intp], NDArray[np.intp]] | None = None
        self._chosen: dict[Format, tuple[bytes, list[bytes]]] = {}

    def add_family(self, name: str, kind: str, help_text: str, unit: str, lines: Iterable[tuple[str, int]]) -> None:
        """Append a family: each line is (sample name and labels, place of its value in the vector)."""
        before = len(self._index)
        for text, at in lines:
            self._prefixes.append(f"\n{text} ".encode())
            self._index.append(at)
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
            self._frozen = np.array(self._index, dtype=np.intp), np.array(self._family_of_line, dtype=np.intp)
        picked = values[self._frozen[0]]
        present = ~absent(picked)
        prefixes = self._present_prefixes(form, present, self._frozen[1])
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
        self._chosen[form] = pattern, found
        return found
