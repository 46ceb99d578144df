"""Open a damaged ring as its next writer: it keeps what is proven, and credits no series with another's samples."""

from __future__ import annotations

import os
from typing import Final

from shm.errors import FogmetricsError, RingError
from shm.files import ring_path
from shm.metric import SeriesKey
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter
from tests.rings import INTERVAL_NS, corrupt_path, files_of
from tests.siege.fuzz.appended import CAPACITY, FRAMES, VICTIM, columns_at, metrics_of, stamp_ns, value
from tests.siege.fuzz.mutations import Mutation
from tests.siege.harness import Violation, require

_COLUMNS: Final[dict[SeriesKey, int]] = {  # the first column of each series, as it was appended
    (metric.name, ("here",) if column == 7 else (VICTIM,)): column
    for column, metric in zip((0, 1, 2, 7), metrics_of(VICTIM), strict=True)
}


class Inheritance:
    """``resume`` puts a mutation in place and opens it for writing; raises Violation where that goes wrong."""

    def __init__(self, namespace: str) -> None:
        """``namespace``: of its own, because the writer replaces files."""
        self.namespace = namespace
        self.resumed = self.begun_anew = 0

    def resume(self, mutation: Mutation) -> None:
        path = ring_path(self.namespace, VICTIM)
        path.write_bytes(mutation.data)
        if mutation.sparse:
            os.truncate(path, mutation.sparse)
        try:
            self._resume(mutation)
        except Exception as error:
            if mutation.forged and isinstance(error, FogmetricsError):
                return
            what = error if isinstance(error, Violation) else f"the writer raised {type(error).__name__}: {error}"
            raise Violation(f"I9: {mutation.kind}, {mutation.name}, opened by the next writer: {what}") from error
        finally:
            for left in files_of(self.namespace):
                if left.suffix != ".lock":
                    left.unlink()

    def _resume(self, mutation: Mutation) -> None:
        try:
            with RingReader(self.namespace, VICTIM) as reader:
                proven = [s for s in range(1, FRAMES + 1) if reader.frame(s) is not None]
                known = {(series.metric.name, series.label_values) for series in reader.series}
        except RingError:
            proven, known = None, set()  # a reader refuses a cut file; the next writer may take what is proven of it
        with RingWriter(self.namespace, VICTIM, interval_ns=INTERVAL_NS, capacity=CAPACITY) as writer:
            if corrupt_path(self.namespace, VICTIM).exists():
                self.begun_anew += 1
            else:
                self.resumed += 1
            kept = writer.history()
            if not mutation.forged:
                require(proven in (None, kept), f"frames {proven} were proven, {kept} were kept")
                require(set(kept) <= set(range(1, FRAMES + 1)), f"frames {kept} were kept of {FRAMES}")
                lost = known - set(writer.columns)
                require(not lost, f"the series {lost} were proven and not kept")
                _check_credit(writer, kept)
            for metric, (_, labels) in zip(metrics_of(VICTIM), _COLUMNS, strict=True):
                writer.add_series(metric, labels)
            if not mutation.forged:
                _check_credit(writer, kept)
            values = [0.0] * writer.column_count
            for key, first in _COLUMNS.items():
                series = writer.columns[key]
                for i, column in enumerate(range(series.column, series.end)):
                    values[column] = value(VICTIM, FRAMES + 1, first + i)
            sequence = writer.append(values, stamp_ns(FRAMES + 1), (FRAMES + 1) * INTERVAL_NS)
            with RingReader(self.namespace, VICTIM) as reader:
                frame = reader.latest()
                found = frame and (frame.sequence, list(frame.values[: len(values)]))
                require(found == (sequence, values), f"the frame that was appended then is read as {found}")


def _check_credit(writer: RingWriter, sequences: list[int]) -> None:
    """Each series has in each frame its own sample, or none."""
    for key, series in writer.columns.items():
        require(key in _COLUMNS, f"the series {key} was never added")
        for sequence in sequences:
            frame = writer.frame(sequence)
            assert frame is not None
            for i, column in enumerate(range(series.column, series.end)):
                found, first = frame.value(column), _COLUMNS[key]
                right = value(VICTIM, sequence, first + i) if first + i < columns_at(sequence) else None
                require(found in (None, right), f"{key} has {found} in frame {sequence}, where {right} was appended")
