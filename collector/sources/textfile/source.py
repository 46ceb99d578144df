"""TextfileSource: collects the files DIRECTORY/*.prom; a bad or old file does not affect the others.

A collection processes the files that were good in the previous collection first, then the others, each by name, so that
a new file never takes a name or a series from an earlier one. An unchanged file is not parsed again. A refused file is
logged with line, reason and remedy when that changes, and has ``textfile_error`` 1 while it lasts; a file older than
``max_age_seconds`` is logged once.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from collector import metrics
from collector.source import Collection, MetricSource, Sample
from collector.sources import prometheus_text
from collector.sources.textfile import reading
from collector.sources.textfile.merge import Merged, NoRoom
from collector.sources.textfile.reading import Refused, State
from collector.sources.textfile.translation import ParsedMetric, translate
from fogmetrics.settings.reader import key
from shm.errors import ConfigurationError, FogmetricsError

log = logging.getLogger(__name__)

_ENDING: Final = ".prom"
# Most samples of all files in memory; the largest [collector] max_series.
_MOST_SAMPLES: Final = 100_000
_MOST_DIRECTORY: Final = 700  # characters; with a file name appended it must fit a label value
# File times have steps of up to 10 ms: a file changed just before it was read may change again with the same time.
_SETTLED_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TextfileOptions:
    """[source.textfile]"""

    directory: str = key("", "Directory whose *.prom files are read; empty: off.")
    max_age_seconds: float = key(
        0.0, "Age of a file, since it was last written, past which its series are absent; 0: no limit.",
        low=0, high=31_536_000,
    )  # fmt: skip
    max_file_bytes: int = key(1_048_576, "Largest file that is read; a larger one is refused.", low=1, high=1 << 30)
    max_files: int = key(100, "Files that are read; those past it are left out, and named.", low=1, high=10_000)


@dataclass(slots=True)
class _File:
    """The result of one file. ``parsed``: its metrics in ``state``; ``logged``: the message of its error in the log.

    ``left_out``: its number of samples if there was no room to keep them.
    """

    state: State | None = None
    parsed: Sequence[ParsedMetric] = ()
    error: str = ""
    logged: str = ""
    left_out: int = 0


class TextfileSource(MetricSource):
    """Reads ``options.directory``. ``clock``: Unix nanoseconds, for the ages of files."""

    name = "textfile"
    metrics = metrics.TEXTFILE

    def __init__(self, options: TextfileOptions | None = None, clock: Callable[[], int] = time.time_ns) -> None:
        self.options = options or TextfileOptions()
        self._clock = clock
        self._files: dict[str, _File] = {}
        directory = self.options.directory
        if directory and not directory.startswith("/"):
            raise ConfigurationError(
                f'[source.textfile] directory is {directory!r}; give an absolute path, such as "/var/lib/textfiles"'
            )
        if len(directory) > _MOST_DIRECTORY:
            raise ConfigurationError(
                f"[source.textfile] directory has {len(directory)} characters, more than {_MOST_DIRECTORY}; give a "
                "shorter path, or a link to it"
            )

    def collect(self) -> Collection:
        try:
            names = _listed(self.options.directory)
        except OSError as error:
            return Collection(
                [Sample(metrics.TEXTFILE_SCRAPE_ERROR.name, 1)],
                [
                    f"the directory {self.options.directory} can't be read: {error.strerror}; make it, and let the "
                    "collector's user read it, or set [source.textfile] directory"
                ],
                up=False,
            )
        known = self._files
        order = sorted(names, key=lambda name: (name not in known or bool(known[name].logged), name))
        self._files = {name: known.get(name) or _File() for name in order[: self.options.max_files]}
        merged = Merged((*metrics.OWN, *metrics.OPTIONAL, *metrics.TEXTFILE), _MOST_SAMPLES)
        own: list[Sample] = []
        errors: list[str] = []
        for name, file in self._files.items():
            path = os.path.join(self.options.directory, name)
            labels = {"file": os.fsencode(path).decode(errors="backslashreplace")}
            try:
                mtime_ns = self._merge(file, path, labels["file"], merged)
            except FileNotFoundError:
                continue  # removed after it was listed
            except FogmetricsError as error:
                errors.append(f"{labels['file']}: {error}")
                own.append(Sample(metrics.TEXTFILE_ERROR.name, 1, labels))
                if _is_news(file, str(error)):
                    log.warning("textfile refused", extra={"file": labels["file"], "error": str(error)})
                continue
            own.append(Sample(metrics.TEXTFILE_MTIME.name, mtime_ns / 1e9, labels))
            own.append(Sample(metrics.TEXTFILE_ERROR.name, 0, labels))
        if left := order[self.options.max_files :]:
            errors.append(
                f"{self.options.directory} has {len(order)} files, more than {self.options.max_files}, so these are "
                f"not read: {', '.join(left[:5])}{', …' if len(left) > 5 else ''}; remove some, or raise "
                "[source.textfile] max_files"
            )
        own.append(Sample(metrics.TEXTFILE_SCRAPE_ERROR.name, float(bool(errors))))
        return Collection([*own, *merged.samples], errors, metrics=tuple(merged.metrics.values()))

    def _merge(self, file: _File, path: str, shown: str, merged: Merged) -> int:
        """Add the file's samples to ``merged``; its mtime. Raises FogmetricsError, FileNotFoundError."""
        state = reading.state_of(path, self.options.max_file_bytes)
        age_ns = self._clock() - state.mtime_ns
        if self.options.max_age_seconds and age_ns > self.options.max_age_seconds * 1e9:
            file.state, file.parsed = None, ()
            if _is_news(file, "too old"):  # without the age, which always grows
                log.warning("textfile too old", extra={"file": shown, "age_seconds": round(age_ns / 1e9)})
            return state.mtime_ns
        if state != file.state or 0 < file.left_out <= merged.room:
            file.state, file.parsed, file.error = self._parsed(path, shown)
            file.left_out = 0
        if file.error:
            raise Refused(file.error)
        try:
            merged.take(shown, file.parsed)
        except NoRoom as error:  # free the samples
            file.parsed, file.error, file.left_out = (), str(error), error.samples
            raise
        if file.logged:
            log.info("textfile read again", extra={"file": shown})
            file.logged = ""
        return state.mtime_ns

    def _parsed(self, path: str, shown: str) -> tuple[State | None, Sequence[ParsedMetric], str]:
        """Read and parse a file: (state, metrics, error). The state is None if it must be read again next time."""
        state, text = reading.read(path, self.options.max_file_bytes)
        settled = abs(self._clock() - max(state.mtime_ns, state.ctime_ns)) > _SETTLED_NS
        try:
            parsed = translate(prometheus_text.parse(text), f"Metric read from {shown}")
        except prometheus_text.BadText as error:
            return state if settled else None, (), str(error)
        return state if settled else None, parsed, ""


def _listed(directory: str) -> list[str]:
    """The names in the directory that match *.prom, of any file type."""
    with os.scandir(directory) as entries:
        return [one.name for one in entries if one.name.endswith(_ENDING) and not one.name.startswith(".")]


def _is_news(file: _File, message: str) -> bool:
    """Whether ``message`` differs from the last one logged of the file; it is the last one from now on."""
    before, file.logged = file.logged, message
    return before != message
