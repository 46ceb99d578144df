"""The program's own slots under a memory without order: every copy a reader can end with, over every restart.

The first writer appends some frames and is killed at any store; its successor appends more. Which values each word
of each slot ever had is recorded (:mod:`tests.siege.model.stores`), and each combination of them goes through the program's
proof. What counts as appended is said in :mod:`tests.siege.model.check`.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from shm.files import ring_path
from shm.ring.frame import Frame, Frames, prove
from shm.ring.reader import RingReader
from shm.ring.windows import Windows
from shm.ring.writer import RingWriter
from tests.rings import INTERVAL_NS, open_writer
from tests.siege.harness import require
from tests.siege.model.stores import History, Recorder, Step, issued, maximal

COLUMNS = 2

Payload = tuple[int, int, int, tuple[float, ...]]  # timestamp, monotonic, flags, values


def _every_word_new(writer: int, sequence: int) -> Payload:
    base = 1000 * writer + sequence
    return 10 * base, 100 * base, base, (base + 0.25, base + 0.5)


def _one_word_new(writer: int, sequence: int) -> Payload:
    """As of a source whose clock stands still: all that tells two frames apart is one value."""
    return 1, 1, 1, (0.5, 1000 * writer + sequence + 0.5)


def _words_come_back(writer: int, sequence: int) -> Payload:
    """Every other frame is alike, so that a word's old value is right again two frames later."""
    return 1 + sequence % 2, 1 + sequence % 3, 1 + writer % 2, (sequence % 2 + 0.5, sequence % 3 + 0.5)


PAYLOADS = {"every word new": _every_word_new, "one word new": _one_word_new, "words come back": _words_come_back}


@dataclass
class Slot:
    """What one slot went through: ``appended``, sequence → the frames that were sealed under it, as told(); of these,
    ``published`` were stored whole.
    """

    history: History
    asked: tuple[int, ...]
    appended: dict[int, set[object]]
    published: dict[int, set[object]]


@dataclass
class _Life:
    """Of a ring from its creation to its last append: a history for each of its slots."""

    histories: list[History]
    appended: dict[int, set[object]]
    published: dict[int, set[object]]


@dataclass
class Scenario:
    """A writer that appends ``appends`` frames and is killed at any store, and a successor that appends ``more``."""

    payload: Callable[[int, int], Payload]
    capacity: int
    appends: int
    more: int
    every_subset: bool = False  # of the words of a copy, where a death cuts it
    salt: int = 0
    deaths: int = 0
    slots: list[Slot] = field(default_factory=list)
    # By what counts as appended: the histories of all slots, and what was published.
    _groups: dict[object, list[_Life]] = field(default_factory=dict)

    def run(self, namespace: str) -> None:
        writer = open_writer(namespace, capacity=self.capacity, columns=COLUMNS, width=COLUMNS)
        self.salt, self._words = writer.header.salt, writer.header.slot_bytes // 8
        first, end = writer.header.slots_offset // 8, writer.header.segment_bytes // 8
        with Recorder(writer.path, first, end) as recorder:
            whole = recorder.whole()
            self._initial, self._first = recorder.words(), first
            steps: list[Step] = []
            ends: list[int] = []  # of each append, as a number of steps
            for sequence in range(1, self.appends + 1):
                given, its = recorder.record(functools.partial(self._append, writer, 1, sequence))
                require(given == sequence, f"I3: append {sequence} of a new ring has sequence {given}")
                steps += its
                ends.append(len(steps))
            final = recorder.words()
            writer.close()
            frames = self._sealed(steps, ends)
            for number, some in issued(steps, self.every_subset):
                recorder.put(whole)
                begun = sum(begin < number or (begin == number and bool(some)) for begin in [0, *ends[:-1]])
                self._die(namespace, recorder, [*(step.stored for step in steps[:number]), some], begun, frames)
                self.deaths += 1
            recorder.put(whole)
            recorder.put_words(final)
        self._collect()

    def _append(self, writer: RingWriter, who: int, sequence: int) -> int:
        timestamp_ns, monotonic_ns, flags, values = self.payload(who, sequence)
        return writer.append(values, timestamp_ns, monotonic_ns, flags)

    def _told(self, who: int, sequence: int) -> object:
        timestamp_ns, monotonic_ns, flags, values = self.payload(who, sequence)
        return timestamp_ns, monotonic_ns, COLUMNS, flags, values

    def _place(self, sequence: int) -> slice:
        at = (sequence - 1) % self.capacity * self._words
        return slice(at, at + self._words)

    def _sealed(self, steps: Sequence[Step], ends: Sequence[int]) -> dict[int, list[int]]:
        """Sequence → the words of its slot at the end of its append."""
        frames, words = {}, list(self._initial)
        for sequence, (begin, end) in enumerate(itertools.pairwise([0, *ends]), 1):
            for step in steps[begin:end]:
                for word, value in step.stored.items():
                    words[word - self._first] = value
            frames[sequence] = words[self._place(sequence)]
        return frames

    def _die(
        self, namespace: str, recorder: Recorder, steps: Sequence[Mapping[int, int]], begun: int,
        frames: dict[int, list[int]],
    ) -> None:  # fmt: skip
        """The writer dies after these stores, of ``begun`` appends; its successor goes on."""
        words = list(self._initial)
        histories = [History.beginning(words[self._place(s)]) for s in range(1, self.capacity + 1)]
        published: dict[int, set[object]] = {}
        for stored in steps:
            for word, value in stored.items():
                words[word - self._first] = value
            self._note(histories, stored)
            published |= {s: {self._told(1, s)} for s, slot in frames.items() if words[self._place(s)] == slot}
        newest = max(published, default=0)
        if newest and self.capacity == 1 and words[self._place(newest)] != frames[newest]:
            newest = 0  # the frame in flight took the only slot: no ring of the program's is so small
        recorder.put_words(words)

        def succeed() -> list[int]:
            with RingWriter(namespace, "s", interval_ns=INTERVAL_NS, capacity=self.capacity, width=COLUMNS) as writer:
                return [self._append(writer, 2, writer.head + 1) for _ in range(self.more)]

        given, following = recorder.record(succeed)
        require(
            given == list(range(newest + 1, newest + 1 + self.more)),
            f"I3: after frame {newest} was published its successor's frames are {given}",
        )
        for step in following:
            self._note(histories, step.stored)
        appended = {sequence: {self._told(1, sequence)} for sequence in range(1, begun + 1)}
        for sequence in given:
            for known in (appended, published):
                known.setdefault(sequence, set()).add(self._told(2, sequence))
        key = tuple(sorted((s, tuple(sorted(map(repr, told)))) for s, told in appended.items()))
        self._groups.setdefault(key, []).append(_Life(histories, appended, published))

    def _note(self, histories: Sequence[History], stored: Mapping[int, int]) -> None:
        for slot, history in enumerate(histories):
            history.add(stored, self._first + slot * self._words)

    def _collect(self) -> None:
        """Of lives in which the same frames count as appended, those histories that are not within others."""
        for group in self._groups.values():
            appended = group[0].appended
            for slot in range(self.capacity):
                asked = tuple(s for s in range(1, max(appended) + 2) if (s - 1) % self.capacity == slot)
                kept = maximal([life.histories[slot] for life in group])
                for life in group:
                    if any(life.histories[slot] is history for history in kept):
                        self.slots.append(Slot(life.histories[slot], asked, appended, life.published))


def told(frame: Frame) -> object:
    return frame.timestamp_ns, frame.monotonic_ns, frame.count, frame.flags, tuple(frame.values[:COLUMNS])


def check_copies(slot: Slot, salt: int) -> int:
    """How many combinations went through prove()."""
    pack = struct.Struct(f"<{len(slot.history.values)}Q").pack
    seen: dict[int, set[object]] = {}
    copies = 0
    for words in slot.history.combinations():
        copy = pack(*words)
        for sequence in slot.asked:
            copies += 1
            frame = prove(copy, sequence, salt)
            if frame is not None:
                _check_frame(frame, sequence, slot.appended)
                seen.setdefault(sequence, set()).add(told(frame))
    # Every frame that was stored whole is among the copies: a proof that accepts nothing is none either.
    for sequence in slot.asked:
        unseen = slot.published.get(sequence, set()) - seen.get(sequence, set())
        require(not unseen, f"I1: frame {sequence} was published and no copy of it was accepted: {unseen}")
    return copies


def _check_frame(frame: Frame, sequence: int, appended: dict[int, set[object]]) -> None:
    require(frame.sequence == sequence, f"I1: asked for frame {sequence}, given frame {frame.sequence}")
    known = appended.get(sequence, set())
    require(told(frame) in known, f"I1: accepted as frame {sequence}: {told(frame)}, never appended; it was {known}")


def check_reader(namespace: str, payload: Callable[[int, int], Payload], appends: int) -> int:
    """The same for the whole reader, over the file: how many copies it looked at."""
    with open_writer(namespace, "r", capacity=1, columns=COLUMNS, width=COLUMNS) as writer:
        first, end = writer.header.slots_offset // 8, writer.header.segment_bytes // 8
        scenario = Scenario(payload, 1, appends, 0)
        with Recorder(writer.path, first, end) as recorder:
            history = History.beginning(recorder.words())
            for sequence in range(1, appends + 1):
                _, steps = recorder.record(functools.partial(scenario._append, writer, 1, sequence))
                for step in steps:
                    history.add(step.stored, first)
    appended = {s: {scenario._told(1, s)} for s in range(1, appends + 1)}
    asked = range(1, appends + 2)
    copies = 0
    with Recorder(ring_path(namespace, "r"), first, end) as recorder, RingReader(namespace, "r") as reader:
        windows = Windows(reader._map, reader.header)
        for words in history.combinations():
            recorder.put_words(words)
            for frame in _all_ways(reader, asked):
                _check_frame(frame, frame.sequence, appended)
            for sequence in asked:
                # The second goes by the timestamps that windows keep, the first does not.
                for since_ns, until_ns in ((None, None), (0, 1 << 62)):
                    _check_window(windows.frames(sequence, since_ns, until_ns, 0), appended)
            copies += 3 * len(asked) + 1
    return copies


def _check_window(window: Frames, appended: dict[int, set[object]]) -> None:
    for i, sequence in enumerate(window.sequence.tolist()):
        values = tuple(window.values[i].tolist())
        as_told = (
            window.timestamp_ns[i].item(),
            window.monotonic_ns[i].item(),
            COLUMNS,
            window.flags[i].item(),
            values,
        )
        require(
            as_told in appended.get(sequence, set()),
            f"I1: accepted into a window as frame {sequence}: {as_told}, never appended",
        )


def _all_ways(reader: RingReader, asked: Sequence[int]) -> Iterator[Frame]:
    for sequence in asked:
        frame = reader.frame(sequence)
        if frame is not None:
            require(frame.sequence == sequence, f"I1: asked for frame {sequence}, given frame {frame.sequence}")
            yield frame
    latest = reader.latest()
    if latest is not None:
        yield latest
