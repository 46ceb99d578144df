"""Gauges of what a window covers: frames of each source, their first and last timestamps, and skipped slots.

A ring that holds ten minutes answers ``window=24h`` with statistics of ten minutes; if a collector was stopped or the
wall clock was set, frames are missing in between. The statistics do not show that; these gauges do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import numpy as np

from exporter.exposition.template import FamilyLines, Line, Lines
from exporter.http.negotiation import Format
from exporter.rings import Ring
from exporter.window.ring_window import Windows
from shm.ring.frame import all_absent


class Gauge(NamedTuple):
    """Name and HELP text of a gauge on the page."""

    name: str
    help: str


ASKED: Final = Gauge("exporter_window_seconds", "The window that was asked for, in seconds.")
OF_A_SOURCE: Final = (
    Gauge(
        "exporter_window_frames",
        "Frames of the source in the window; the p99 of 100 or fewer samples is their max, the p95 of 20 or fewer.",
    ),
    Gauge("exporter_window_first_timestamp_seconds", "Earliest timestamp of those frames, in Unix seconds."),
    Gauge("exporter_window_last_timestamp_seconds", "Latest timestamp of those frames, in Unix seconds."),
    Gauge("exporter_window_skipped_frames", "Slots that were torn or lapped when the window was read."),
)
NAMES: Final = frozenset(gauge.name for gauge in (ASKED, *OF_A_SOURCE))


class Coverage:
    """The gauges' lines for those of ``rings`` that ``indexes`` select; no lines without indexes."""

    def __init__(self, rings: Sequence[Ring], indexes: Iterable[int]) -> None:
        self._indexes = sorted(indexes)
        size = len(OF_A_SOURCE)
        families = [FamilyLines(ASKED.name, "gauge", ASKED.help, "seconds", [Line("", (), 0)])]
        for i, gauge in enumerate(OF_A_SOURCE):
            unit = "seconds" if gauge.name.endswith("_seconds") else ""
            lines = [
                Line("", [("source", rings[index].source)], 1 + size * n + i) for n, index in enumerate(self._indexes)
            ]
            families.append(FamilyLines(gauge.name, "gauge", gauge.help, unit, lines))
        self._lines = Lines(families if self._indexes else ())

    def render(self, windows: Windows, form: Format) -> list[bytes]:
        """The text, in parts. ``windows``: those of the page's statistics; one that can't be read has no lines."""
        values = all_absent(1 + len(OF_A_SOURCE) * len(self._indexes))
        values[0] = windows.length_ns / 1e9
        of_sources = values[1:].reshape(-1, len(OF_A_SOURCE))
        for row, index in zip(of_sources, self._indexes, strict=True):
            window = windows.found.get(index)
            if window is None:
                continue
            stamps = window.timestamp_ns
            row[0], row[3] = len(stamps), window.skipped
            if len(stamps):
                # Not the first and the last frame's: frames are ordered by sequence, and the wall clock may have been
                # set in between.
                row[1:3] = np.array([stamps.min(), stamps.max()]) / 1e9
        return self._lines.parts(values, form)
