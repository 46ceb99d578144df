"""The directory: which files there are, and what becomes of each, one that is bad or old costing only itself.

A collection lists DIRECTORY/*.prom and goes through the files, those that were good in the collection before first, the
others behind them, by name: so a new file never takes a name or a series from one that had it. A file that is as it was
is not parsed again. One that is refused is named with line, reason and remedy, in the log when that changes, in
``textfile_error`` while it lasts; one that is older than ``max_age_seconds`` is named in the log once.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from collector import metrics
from collector.settings import CollectorTables
from collector.source import Collection, MetricSource, Sample
from collector.sources import prometheus_text
from collector.sources.textfile import reading
from collector.sources.textfile.merge import Merged, NoRoom
from collector.sources.textfile.reading import Refused, State
from collector.sources.textfile.translation import Told, translate
from fogmetrics.settings.reader import key
from shm.errors import ConfigurationError, FogmetricsError

log = logging.getLogger(__name__)

_ENDING: Final = ".prom"
# All samples of all files that are kept in memory at once; as many as [collector] max_series can be.
_MOST_SAMPLES: Final = 100_000
_MOST_DIRECTORY: Final = 700  # characters; with a file's name behind it still a label's value
# Times of files move in steps of up to 10 ms: one that changed just before it was read may change again unseen.
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
    """What is known of one. ``told`` is of the state ``state``; ``said`` is what the log has of it.

    ``left_out``: how many samples it has, where they are not kept because there was no room for them.
    """

    state: State | None = None
    told: Sequence[Told] = ()
    error: str = ""
    said: str = ""
    good: bool = False
    left_out: int = 0


class TextfileSource(MetricSource):
    """Reads ``options.directory``. ``clock``: Unix nanoseconds, which the files' ages are told by."""

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
        self.off = "" if directory else "[source.textfile] directory is empty"

    @classmethod
    def from_config(cls, options: TextfileOptions, config: CollectorTables, timeout_seconds: float) -> TextfileSource:
        return cls(options)

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
        order = sorted(names, key=lambda name: (not (name in known and known[name].good), name))
        self._files = {name: known.get(name) or _File() for name in order[: self.options.max_files]}
        merged = Merged((*metrics.OWN, *metrics.OPTIONAL, *metrics.TEXTFILE), _MOST_SAMPLES)
        own: list[Sample] = []
        errors: list[str] = []
        for name, file in self._files.items():
            path = os.path.join(self.options.directory, name)
            labels = {"file": os.fsencode(path).decode(errors="backslashreplace")}
            file.good = False
            try:
                mtime_ns = self._taken(file, path, labels["file"], merged)
            except FileNotFoundError:
                continue  # it went since it was listed
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
                f"{self.options.directory} has {len(order)} files, more than {self.options.max_files}: left out are "
                f"{', '.join(left[:5])}{', …' if len(left) > 5 else ''}; remove some, or raise [source.textfile] "
                "max_files"
            )
        own.append(Sample(metrics.TEXTFILE_SCRAPE_ERROR.name, float(bool(errors))))
        return Collection([*own, *merged.samples], errors, metrics=tuple(merged.metrics.values()))

    def _taken(self, file: _File, path: str, shown: str, merged: Merged) -> int:
        """Put the file's samples among the others; its time. Raises FogmetricsError, FileNotFoundError."""
        state = reading.state_of(path, self.options.max_file_bytes)
        age_ns = self._clock() - state.mtime_ns
        if self.options.max_age_seconds and age_ns > self.options.max_age_seconds * 1e9:
            file.state, file.told = None, ()
            if _is_news(file, "too old"):  # the age grows, and is no news
                log.warning("textfile too old", extra={"file": shown, "age_seconds": round(age_ns / 1e9)})
            return state.mtime_ns
        if state != file.state or 0 < file.left_out <= merged.room:
            file.state, file.told, file.error = self._parsed(path, shown)
            file.left_out = 0
        if file.error:
            raise Refused(file.error)
        try:
            merged.take(shown, file.told)
        except NoRoom as error:  # what has no room must not be kept either
            file.told, file.error, file.left_out = (), str(error), error.samples
            raise
        file.good = True
        if file.said:
            log.info("textfile read again", extra={"file": shown})
            file.said = ""
        return state.mtime_ns

    def _parsed(self, path: str, shown: str) -> tuple[State | None, Sequence[Told], str]:
        """(state, what it tells, what is wrong); no state where the file is to be read again in any case."""
        state, text = reading.read(path, self.options.max_file_bytes)
        settled = abs(self._clock() - max(state.mtime_ns, state.ctime_ns)) > _SETTLED_NS
        try:
            told = translate(prometheus_text.parse(text), f"Metric read from {shown}")
        except prometheus_text.BadText as error:
            return state if settled else None, (), str(error)
        return state if settled else None, told, ""


def _listed(directory: str) -> list[str]:
    """The names of what may be a file to read, of whatever kind."""
    with os.scandir(directory) as entries:
        return [one.name for one in entries if one.name.endswith(_ENDING) and not one.name.startswith(".")]


def _is_news(file: _File, said: str) -> bool:
    """Whether the log has something else of the file, or nothing."""
    before, file.said = file.said, said
    return before != said
