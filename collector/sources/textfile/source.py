"""TextfileSource: collects the files DIRECTORY/*.prom; a bad or old file does not affect the others.

A file that can't be read, or is not Prometheus text, is refused. A family or series that a ring can't hold, and a
family that conflicts with another file, is omitted, and the rest of its file is kept. Either is logged with line,
reason and remedy when that changes, and the file has ``textfile_error`` 1 while it lasts. A file older than
``max_age_seconds`` is logged once.

A collection processes the files that were good in the previous collection first, then the others, each in the order in
which they came, so that a new file never takes a name or a series from an earlier one. An unchanged file is not parsed
again.
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
from collector.sources.prometheus_text import BadText
from collector.sources.textfile import reading
from collector.sources.textfile.merge import Merged
from collector.sources.textfile.reading import Refused, State
from collector.sources.textfile.translation import ParsedMetric, translate
from fogmetrics.durations import Seconds
from fogmetrics.settings.reader import Directory, key
from shm.errors import ConfigurationError, FogmetricsError

log = logging.getLogger(__name__)

_ENDING: Final = ".prom"
# Most samples of all files in memory; the largest [collector] max_series.
_MOST_SAMPLES: Final = 100_000
_MOST_DIRECTORY: Final = 700  # characters; with a file name appended it must fit a label value
_MOST_NAMED: Final = 10  # errors of one file
# File times have steps of up to 10 ms: a file changed just before it was read may change again with the same time.
_SETTLED_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class TextfileOptions:
    """[source.textfile]"""

    directory: Directory = key("", "Directory whose *.prom files are read; empty: off.")
    max_age_seconds: Seconds = key(
        0.0, "Time since a file was last written after which its series are absent; 0: no limit.",
        low=0, high=31_536_000,
    )  # fmt: skip
    max_file_bytes: int = key(1_048_576, "Largest file that is read; a larger one is refused.", low=1, high=1 << 30)
    max_files: int = key(100, "Largest number of files that are read; the log names the others.", low=1, high=10_000)

    def __post_init__(self) -> None:
        directory = self.directory
        if directory and not directory.startswith("/"):
            raise ConfigurationError(
                f'[source.textfile] directory is {directory!r}; give an absolute path, such as "/var/lib/textfiles"'
            )
        if len(directory) > _MOST_DIRECTORY:
            raise ConfigurationError(
                f"[source.textfile] directory has {len(directory)} characters, more than {_MOST_DIRECTORY}; give a "
                "shorter path, or a link to it"
            )


@dataclass(slots=True)
class _File:
    """The result of one file. ``logged``: the message of its error in the log.

    In ``state`` it has the families ``parsed``, the errors of its omitted parts ``omitted``, and the ``error`` for
    which it is refused. ``left_out``: its number of samples if there was no room to keep them.
    """

    state: State | None = None
    parsed: Sequence[Sequence[ParsedMetric]] = ()
    omitted: Sequence[str] = ()
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

    def collect(self) -> Collection:
        try:
            names = set(_listed(self.options.directory))
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
        kept = dict.fromkeys([*(name for name in known if name in names), *sorted(names)])
        order = sorted(kept, key=lambda name: name not in known or bool(known[name].logged))
        self._files = {name: known.get(name) or _File() for name in order[: self.options.max_files]}
        merged = Merged((*metrics.OWN, *metrics.OPTIONAL, *metrics.TEXTFILE), _MOST_SAMPLES)
        own: list[Sample] = []
        errors: list[str] = []
        for name, file in self._files.items():
            path = os.path.join(self.options.directory, name)
            labels = {"file": os.fsencode(path).decode(errors="backslashreplace")}
            try:
                mtime_ns, omitted = self._merge(file, path, labels["file"], merged)
            except FileNotFoundError:
                continue  # removed after it was listed
            except FogmetricsError as error:
                errors.append(f"{labels['file']}: {error}")
                own.append(Sample(metrics.TEXTFILE_ERROR.name, 1, labels))
                if _is_news(file, str(error)):
                    log.warning("textfile refused", extra={"file": labels["file"], "error": str(error)})
                continue
            own.append(Sample(metrics.TEXTFILE_MTIME.name, mtime_ns / 1e9, labels))
            own.append(Sample(metrics.TEXTFILE_ERROR.name, float(bool(omitted)), labels))
            errors += [f"{labels['file']}: {error}" for error in omitted]
            if omitted and _is_news(file, "; ".join(omitted)):
                log.warning("textfile read in part", extra={"file": labels["file"], "error": file.logged})
        if left := order[self.options.max_files :]:
            errors.append(
                f"{self.options.directory} has {len(order)} files, more than {self.options.max_files}, so these are "
                f"not read: {', '.join(left[:5])}{', …' if len(left) > 5 else ''}; remove some, or raise "
                "[source.textfile] max_files"
            )
        own.append(Sample(metrics.TEXTFILE_SCRAPE_ERROR.name, float(bool(errors))))
        return Collection([*own, *merged.samples], errors, metrics=tuple(merged.metrics.values()))

    def _merge(self, file: _File, path: str, shown: str, merged: Merged) -> tuple[int, list[str]]:
        """Add the file's samples to ``merged``: (its mtime, errors of its omitted parts).

        Raises FogmetricsError if the file is refused, FileNotFoundError.
        """
        state = reading.state_of(path, self.options.max_file_bytes)
        age_ns = self._clock() - state.mtime_ns
        if self.options.max_age_seconds and age_ns > self.options.max_age_seconds * 1e9:
            file.state, file.parsed, file.omitted = None, (), ()
            if _is_news(file, "too old"):  # without the age, which always grows
                log.warning("textfile too old", extra={"file": shown, "age_seconds": round(age_ns / 1e9)})
            return state.mtime_ns, []
        if state != file.state or 0 < file.left_out <= merged.room:
            self._parse(file, path, shown)
        samples = sum(len(one.samples) for family in file.parsed for one in family)
        if samples > merged.room:  # free the samples
            file.parsed, file.omitted, file.left_out = (), (), samples
            file.error = f"with its samples there would be more than {merged.most}; remove some, or whole files"
        if file.error:
            raise Refused(file.error)
        conflicts = []
        for family in file.parsed:
            try:
                merged.take(shown, family)
            except BadText as error:
                conflicts.append(error)
        omitted = [*file.omitted, *_named(conflicts)]
        if file.logged and not omitted:
            log.info("textfile read again", extra={"file": shown})
            file.logged = ""
        return state.mtime_ns, omitted

    def _parse(self, file: _File, path: str, shown: str) -> None:
        """Read and parse the file. Its state is None if it must be read again next time. Raises Refused."""
        state, text = reading.read(path, self.options.max_file_bytes)
        settled = abs(self._clock() - max(state.mtime_ns, state.ctime_ns)) > _SETTLED_NS
        file.state = state if settled else None
        file.parsed, file.omitted, file.error, file.left_out = (), (), "", 0
        try:
            families = prometheus_text.parse(text)
        except BadText as error:
            file.error = str(error)
            return
        file.parsed, errors = translate(families, f"Metric read from {shown}")
        file.omitted = _named(errors)


def _listed(directory: str) -> list[str]:
    """The names in the directory that match *.prom, of any file type."""
    with os.scandir(directory) as entries:
        return [one.name for one in entries if one.name.endswith(_ENDING) and not one.name.startswith(".")]


def _named(errors: Sequence[BadText]) -> list[str]:
    """The errors as text, in bounded number."""
    more = len(errors) - _MOST_NAMED
    return [*map(str, errors[:_MOST_NAMED]), *([f"{more} more errors of this kind"] if more > 0 else [])]


def _is_news(file: _File, message: str) -> bool:
    """Whether ``message`` differs from the last one logged of the file; it is the last one from now on."""
    before, file.logged = file.logged, message
    return before != message
