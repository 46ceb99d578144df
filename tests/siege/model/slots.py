"""Every copy of a slot that a reader can end with, over every restart, through the program's own proof.

A writer appends some frames and is killed at any store; its successor appends more. Every value that each word of each
slot ever had is recorded, and each combination of them is proven. :mod:`tests.siege.model.check` says which frames
count as appended.
"""

from __future__ import annotations

import functools
import itertools
import struct
from collections.abc import Callable, Sequence
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

Payload = Callable[[int, int], tuple[int, int, int, tuple[float, ...]]]
Content = tuple[int, int, int, int, tuple[float, ...]]  # timestamp, monotonic, count, flags, values
Appended = dict[int, set[Content]]  # by sequence


def _every_word_new(writer: int, sequence: int) -> tuple[int, int, int, tuple[float, ...]]:
    """Timestamp, monotonic time, flags and values of the frame that this writer appends under that number."""
    base = 1000 * writer + sequence
    return 10 * base, 100 * base, base, (base + 0.25, base + 0.5)


def _words_come_back(writer: int, sequence: int) -> tuple[int, int, int, tuple[float, ...]]:
    """Every other frame is alike, so that a word's old value is right again two frames later."""
    return 1 + sequence % 2, 1 + sequence % 3, 1 + writer % 2, (sequence % 2 + 0.5, sequence % 3 + 0.5)


PAYLOADS: tuple[Payload, ...] = (_every_word_new, _words_come_back)


@dataclass
class Slot:
    """The history of one slot; the frames that were sealed, and of these the ones that were stored whole."""

    history: History
    asked: tuple[int, ...]  # the sequences that the slot may hold
    appended: Appended
    published: Appended


@dataclass
class Scenario:
    """A writer that appends ``appends`` frames and is killed at any store, and a successor that appends ``more``."""

    payload: Payload
    capacity: int
    appends: int
    more: int
    every_subset: bool = False  # of the words of a copy that a death interrupts
    salt: int = 0
    deaths: int = 0
    slots: list[Slot] = field(default_factory=list)

    def run(self, namespace: str) -> None:
        writer = open_writer(namespace, capacity=self.capacity, columns=COLUMNS, width=COLUMNS)
        self.salt, self._words = writer.header.salt, writer.header.slot_bytes // 8
        first, end = writer.header.slots_offset // 8, writer.header.segment_bytes // 8
        # Histories of all slots, and what was published, by what was appended.
        lives: dict[object, list[tuple[list[History], Appended, Appended]]] = {}
        with Recorder(writer.path, first, end) as recorder:
            whole = recorder.whole()
            self._initial, self._first = recorder.words(), first
            steps: list[Step] = []
            ends = [0]  # of each append, as a number of steps
            frames: dict[int, list[int]] = {}  # sequence → the words of its slot at the end of its append
            for sequence in range(1, self.appends + 1):
                given, its = recorder.record(functools.partial(self.append, writer, 1, sequence))
                require(given == sequence, f"I3: append {sequence} of a new ring has sequence {given}")
                steps += its
                ends.append(len(steps))
                frames[sequence] = recorder.words()[self._place(sequence)]
            writer.close()
            for number, some in issued(steps, self.every_subset):
                recorder.put(whole)
                begun = sum(begin < number or (begin == number and bool(some)) for begin in ends[:-1])
                stored = [*steps[:number], some]
                histories, appended, published = self._die(namespace, recorder, stored, begun, frames)
                key = repr(sorted((s, sorted(contents)) for s, contents in appended.items()))
                lives.setdefault(key, []).append((histories, appended, published))
                self.deaths += 1
        # Of the lives in which the same frames were appended, the histories that no other one includes.
        for group, slot in itertools.product(lives.values(), range(self.capacity)):
            kept = maximal([histories[slot] for histories, _, _ in group])
            for histories, appended, published in group:
                if any(histories[slot] is history for history in kept):
                    asked = tuple(s for s in range(1, max(appended) + 2) if (s - 1) % self.capacity == slot)
                    self.slots.append(Slot(histories[slot], asked, appended, published))

    def append(self, writer: RingWriter, number: int, sequence: int) -> int:
        """Append the frame that writer 1, the first, or 2, its successor, gives that sequence."""
        timestamp_ns, monotonic_ns, flags, values = self.payload(number, sequence)
        return writer.append(values, timestamp_ns, monotonic_ns, flags)

    def content(self, number: int, sequence: int) -> Content:
        timestamp_ns, monotonic_ns, flags, values = self.payload(number, sequence)
        return timestamp_ns, monotonic_ns, COLUMNS, flags, values

    def _place(self, sequence: int) -> slice:
        at = (sequence - 1) % self.capacity * self._words
        return slice(at, at + self._words)

    def _die(
        self, namespace: str, recorder: Recorder, steps: Sequence[Step], begun: int,
        frames: dict[int, list[int]],
    ) -> tuple[list[History], Appended, Appended]:  # fmt: skip
        """The writer dies after these stores, of ``begun`` appends; its successor goes on."""
        words = list(self._initial)
        histories = [History.beginning(words[self._place(s)]) for s in range(1, self.capacity + 1)]
        published: Appended = {}
        for stored in steps:
            for word, value in stored.items():
                words[word - self._first] = value
            self._note(histories, stored)
            published |= {s: {self.content(1, s)} for s, slot in frames.items() if words[self._place(s)] == slot}
        newest = max(published, default=0)
        if newest and self.capacity == 1 and words[self._place(newest)] != frames[newest]:
            newest = 0  # the frame in flight took the only slot
        recorder.put_words(words)

        def succeed() -> list[int]:
            with RingWriter(namespace, "s", interval_ns=INTERVAL_NS, capacity=self.capacity, width=COLUMNS) as writer:
                return [self.append(writer, 2, writer.head + 1) for _ in range(self.more)]

        given, following = recorder.record(succeed)
        require(
            given == list(range(newest + 1, newest + 1 + self.more)),
            f"I3: after frame {newest} was published its successor's frames are {given}",
        )
        for step in following:
            self._note(histories, step)
        appended = {sequence: {self.content(1, sequence)} for sequence in range(1, begun + 1)}
        for known, sequence in itertools.product((appended, published), given):
            known.setdefault(sequence, set()).add(self.content(2, sequence))
        return histories, appended, published

    def _note(self, histories: Sequence[History], stored: Step) -> None:
        for slot, history in enumerate(histories):
            history.add(stored, self._first + slot * self._words)


def check_copies(slot: Slot, salt: int) -> int:
    """Prove every combination of the slot's history; how many there were."""
    pack = struct.Struct(f"<{len(slot.history.values)}Q").pack
    seen: Appended = {}
    copies = 0
    for words in slot.history.combinations():
        copy = pack(*words)
        for sequence in slot.asked:
            copies += 1
            frame = prove(copy, sequence, salt)
            if frame is not None:
                seen.setdefault(sequence, set()).add(_checked(frame, sequence, slot.appended))
    # Every frame that was stored whole is among the copies, so the proof must have accepted it.
    for sequence in slot.asked:
        unseen = slot.published.get(sequence, set()) - seen.get(sequence, set())
        require(not unseen, f"I1: frame {sequence} was published and no copy of it was accepted: {unseen}")
    return copies


def _checked(frame: Frame, sequence: int, appended: Appended) -> Content:
    """The frame's content. Raises Violation unless it was appended under that number."""
    require(frame.sequence == sequence, f"I1: asked for frame {sequence}, given frame {frame.sequence}")
    found = (frame.timestamp_ns, frame.monotonic_ns, frame.count, frame.flags, tuple(frame.values[:COLUMNS]))
    known = appended.get(sequence, set())
    require(found in known, f"I1: accepted as frame {sequence}: {found}, never appended; it was {known}")
    return found


def check_reader(namespace: str, payload: Payload, appends: int) -> int:
    """The same through every method of a RingReader, over the file; how many copies were proven."""
    with open_writer(namespace, "r", capacity=1, columns=COLUMNS, width=COLUMNS) as writer:
        first, end = writer.header.slots_offset // 8, writer.header.segment_bytes // 8
        scenario = Scenario(payload, 1, appends, 0)
        with Recorder(writer.path, first, end) as recorder:
            history = History.beginning(recorder.words())
            for sequence in range(1, appends + 1):
                _, steps = recorder.record(functools.partial(scenario.append, writer, 1, sequence))
                for step in steps:
                    history.add(step, first)
    appended = {s: {scenario.content(1, s)} for s in range(1, appends + 1)}
    asked = range(1, appends + 2)
    copies = 0
    with Recorder(ring_path(namespace, "r"), first, end) as recorder, RingReader(namespace, "r") as reader:
        windows = Windows(reader._map, reader.header)
        for words in history.combinations():
            recorder.put_words(words)
            latest = reader.latest()
            if latest is not None:
                _checked(latest, latest.sequence, appended)
            for sequence in asked:
                frame = reader.frame(sequence)
                if frame is not None:
                    _checked(frame, sequence, appended)
                # The second window selects by the timestamps that Windows caches.
                for since_ns, until_ns in ((None, None), (0, 1 << 62)):
                    _check_window(windows.frames(sequence, since_ns, until_ns, 0), appended)
            copies += 3 * len(asked) + 1
    return copies


def _check_window(window: Frames, appended: Appended) -> None:
    for i, sequence in enumerate(window.sequence.tolist()):
        timestamp_ns, monotonic_ns, flags = (
            int(word[i]) for word in (window.timestamp_ns, window.monotonic_ns, window.flags)
        )
        found = (timestamp_ns, monotonic_ns, COLUMNS, flags, tuple(window.values[i].tolist()))
        require(
            found in appended.get(sequence, set()),
            f"I1: accepted into a window as frame {sequence}: {found}, never appended",
        )
