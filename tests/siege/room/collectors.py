"""Scenarios of the check ``room`` with real collectors: the program, and MetricCollector as users' own code has it."""

from __future__ import annotations

import logging
import subprocess
import time
from collections import Counter

from collector.frame.collector import MetricCollector
from fogmetrics.exit import EX_TEMPFAIL
from shm.errors import RingError, RingMissing
from shm.files import ring_path
from shm.metric import Metric
from shm.ring.reader import RingReader
from tests.siege.harness import require
from tests.siege.room.full_shm import MIB, NUMBER, PAGE, SAID, Filler, beside, configured, finished, free, read

_WAIT_SECONDS = 30.0


def collector_too_large(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """The real program: status 75, and one line that says it all."""
    with configured(namespace, capacity=200_000) as path:
        room = free()
        with beside("collector", "node", "--config", path) as process:
            _, said = finished(process, "a collector without room", EX_TEMPFAIL)
        lines = said.splitlines()
        require(len(lines) == 1, f"I7: a collector without room says {len(lines)} lines: {said}")
        match = SAID.match(lines[0].removeprefix("collector node: "))
        require(match, f"I7: a collector without room says {lines[0]!r}")
        assert match
        require(float(match[1]) > room / MIB, f"I7: it needs no more than the {room / MIB:.1f} MiB there are: {said}")
        require(free() >= room - PAGE, "I7: a collector without room left more than its lock")
        counts["collector programs"] += 1


def collector_in_use(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """The real program goes on, and ends well, in a /dev/shm that somebody filled to the last page."""
    with configured(namespace) as path, beside("collector", "node", "--config", path) as process:
        head = head_beyond(process, namespace, 1)
        filler.leave(0)
        last = head_beyond(process, namespace, head + 5)
        process.terminate()
        finished(process, "a collector in a full /dev/shm")
        counts["frames of real collectors"] += last
        counts["collector programs"] += 1
        # And the next one finds its ring, and no page for anything else.
        with beside("collector", "node", "--config", path) as process:
            head_beyond(process, namespace, last + 2)
            process.terminate()
            finished(process, "a collector that started in a full /dev/shm")
        counts["collector programs"] += 1


def collector_without_file(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """Its ring's file removed and no room for another beside: it says so and ends; the next one begins anew."""
    with configured(namespace) as path, beside("collector", "node", "--config", path) as process:
        head_beyond(process, namespace, 2)
        filler.leave(0)
        ring_path(namespace, "node").unlink()
        _, said = finished(process, "a collector whose ring was removed", EX_TEMPFAIL)
        last = said.splitlines()[-1]
        require(SAID.match(last.removeprefix("collector node: ")), f"I7: a collector without room says {last!r}")
        with beside("collector", "node", "--config", path) as process:
            head_beyond(process, namespace, 2)
            process.terminate()
            finished(process, "a collector that began anew")
        counts["collector programs"] += 2


def head_beyond(process: subprocess.Popen[str], namespace: str, head: int) -> int:
    """The newest frame of the collector ``node`` once it is ``head`` or beyond."""
    until = time.monotonic() + _WAIT_SECONDS
    newest = 0
    while time.monotonic() < until:
        try:
            with RingReader(namespace, "node") as reader:
                newest = reader.newest_sequence()
        except RingMissing:
            pass  # not yet
        except RingError as error:
            require(False, f"I7: the ring of a collector can't be read: {error}")
        if newest >= head:
            return newest
        status = process.poll()
        if status is not None:
            finished(process, f"a collector at {newest} frames")
        time.sleep(0.02)
    require(False, f"I7: a collector stands at {newest} frames")
    return 0


def collector_that_grows(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """Series that find no room are dropped, counted and named; the others' samples come, and theirs once there is."""
    warned = _Warned()
    logging.getLogger("collector.frame.cardinality").addHandler(warned)
    with MetricCollector("s", namespace=namespace, capacity=3000) as one:
        one.register(NUMBER)

        def tick(numbers: range) -> int:
            sequence = one.writer.head + 1
            for number in numbers:
                one.record_metric(NUMBER.name, value_of(sequence, number), {"of": str(number)})
            return one.commit()

        def value_of(sequence: int, number: int) -> float:
            return float(sequence * 4096 + number)

        tick(range(8))
        filler.leave(PAGE)
        for dropped in (92, 184, 276):
            sequence = tick(range(100))
            require(sequence == one.writer.head, "I7: a collector without room to grow did not append")
            require(
                one.series_dropped == dropped, f"I7: {one.series_dropped} series were counted as dropped: {dropped}"
            )
            counts["series dropped and counted"] += 92
        require(
            [said for said in warned.said if "number" in said and "MiB" in said],
            f"I7: the log does not name the metric that found no room: {warned.said}",
        )
        counts["frames read"] += read(namespace, "s", 4)
        filler.give()
        tick(range(100))
        require(len(one.writer.columns) == 100, f"I7: with room again there are {len(one.writer.columns)} series")
        counts["frames read"] += read(namespace, "s", 5)


def collector_redefined(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """Buckets that changed, as after an upgrade, and no room to rebuild: that metric waits, the others go on."""
    old, new = (Metric("latency", "histogram", "", "", (), buckets) for buckets in ((1.0,), (1.0, 2.0, 3.0)))
    with MetricCollector("s", namespace=namespace, capacity=3000) as one:
        one.register(NUMBER, old)
        one.record_metric("latency", 1)
        one.record_metric(NUMBER.name, 4097, {"of": "1"})
        one.commit()
    filler.leave(2 * PAGE)
    with MetricCollector("s", namespace=namespace, capacity=3000) as one:
        one.register(NUMBER, new)
        one.resume()
        for sequence in (2, 3, 4):
            one.record_metric("latency", 1)
            one.record_metric(NUMBER.name, sequence * 4096 + 1, {"of": "1"})
            require(one.commit() == sequence, "I7: a collector without room for a changed metric did not append")
            require(one.series_dropped == sequence - 1, f"I7: {one.series_dropped} samples were counted as dropped")
            counts["series dropped and counted"] += 1
        counts["frames read"] += read(namespace, "s", 4)
        filler.give()
        one.record_metric("latency", 1)
        one.commit()
        require(one.writer.metrics["latency"] == new, "with room again a changed metric was not entered")
        counts["frames read"] += read(namespace, "s", 5)


class _Warned(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(f"{record.getMessage()} {getattr(record, 'metric', '')} {getattr(record, 'error', '')}")
