"""Scenarios of the check ``room`` with real collectors: the program, and MetricCollector as users' own code has it."""

from __future__ import annotations

import logging
from collections import Counter
from logging.handlers import BufferingHandler

from collector.frame.collector import MetricCollector
from fogmetrics.exit import EX_TEMPFAIL
from shm.files import ring_path
from shm.metric import Metric
from tests.programs import Program
from tests.rings import GAUGE
from tests.siege.collectors import WAIT_SECONDS, collector, wait_for_frame
from tests.siege.harness import require
from tests.siege.processes import ended
from tests.siege.room.full_shm import MIB, PAGE, SAID, Filler, free, read

_log = logging.getLogger("collector.frame.cardinality")


def _finished(program: Program, what: str, counts: Counter[str], status: int = 0) -> list[str]:
    """The lines that it printed. Raises Violation unless it ends with that status."""
    found = program.process.wait(WAIT_SECONDS)
    require(found == status, f"I7: {what} {ended(found) or 'ended well'}: {program.log()[-800:]}")
    counts["collector programs"] += 1
    return program.log().splitlines()


def too_large(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """The program ends with status 75 and one line that has the whole message."""
    room = free()
    with collector(namespace, "node", capacity=200_000) as program:
        lines = _finished(program, "a collector without room", counts, EX_TEMPFAIL)
    require(len(lines) == 1, f"I7: a collector without room prints {len(lines)} lines: {lines}")
    match = SAID.match(lines[0].removeprefix("collector node: "))
    require(match, f"I7: a collector without room prints {lines[0]!r}")
    assert match
    require(float(match[1]) > room / MIB, f"I7: it needs no more than the {room / MIB:.1f} MiB there are: {lines}")
    require(free() >= room - PAGE, "I7: a collector without room left more than its lock")


def in_use(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """The program goes on, and ends well, in a /dev/shm that is full to the last page."""
    with collector(namespace, "node") as program:
        head = wait_for_frame(program, namespace, "node", 1)
        filler.leave(0)
        last = wait_for_frame(program, namespace, "node", head + 5)
        program.process.terminate()
        _finished(program, "a collector in a full /dev/shm", counts)
    counts["frames of theirs"] += last
    # The next one finds its ring, and no page for anything else.
    with collector(namespace, "node") as program:
        wait_for_frame(program, namespace, "node", last + 2)
        program.process.terminate()
        _finished(program, "a collector that started in a full /dev/shm", counts)


def without_file(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """The ring's file is removed, with no room for another: the program ends with the reason; the next begins anew."""
    with collector(namespace, "node") as program:
        wait_for_frame(program, namespace, "node", 2)
        filler.leave(0)
        ring_path(namespace, "node").unlink()
        last = _finished(program, "a collector whose ring was removed", counts, EX_TEMPFAIL)[-1]
        require(SAID.match(last.removeprefix("collector node: ")), f"I7: a collector without room prints {last!r}")
    with collector(namespace, "node") as program:
        wait_for_frame(program, namespace, "node", 2)
        program.process.terminate()
        _finished(program, "a collector that began anew", counts)


def that_grows(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """Series without room are dropped, counted and named, and the others' samples come; so do theirs, with room."""
    warned = BufferingHandler(1000)
    _log.addHandler(warned)
    with MetricCollector("s", namespace=namespace, capacity=3000) as one:
        one.register(GAUGE)

        def tick(numbers: range) -> int:
            sequence = one.writer.head + 1
            for number in numbers:
                one.record_metric(GAUGE.name, float(sequence * 4096 + number), {"column": str(number)})
            return one.commit()

        tick(range(8))
        filler.leave(PAGE)
        for dropped in (92, 184, 276):
            sequence = tick(range(100))
            require(sequence == one.writer.head, "I7: a collector without room to grow did not append")
            counted = one.cardinality.dropped
            require(counted == dropped, f"I7: {counted} series were counted as dropped: {dropped}")
            counts["series dropped, counted and named"] += 92
        said = [vars(record) for record in warned.buffer]
        named = any(GAUGE.name in str(one.get("metric")) and "MiB" in str(one.get("error")) for one in said)
        require(named, f"I7: the log does not name the metric that found no room: {said}")
        read(namespace, "s", 4, 8, counts)
        filler.give()
        tick(range(100))
        require(len(one.writer.columns) == 100, f"I7: with room again there are {len(one.writer.columns)} series")
        read(namespace, "s", 5, 100, counts)
    _log.removeHandler(warned)


def redefined(namespace: str, filler: Filler, counts: Counter[str]) -> None:
    """Buckets that changed, as after an upgrade, and no room to rebuild: that metric waits, the others go on."""
    old, new = (Metric("latency", "histogram", "", "", (), buckets) for buckets in ((1.0,), (1.0, 2.0, 3.0)))
    with MetricCollector("s", namespace=namespace, capacity=3000) as one:
        one.register(GAUGE, old)
        one.record_metric(GAUGE.name, 4096, {"column": "0"})
        one.record_metric("latency", 1)
        one.commit()
    filler.leave(2 * PAGE)
    with MetricCollector("s", namespace=namespace, capacity=3000) as one:
        one.register(GAUGE, new)
        one.resume()
        for sequence in (2, 3, 4):
            one.record_metric("latency", 1)
            one.record_metric(GAUGE.name, sequence * 4096, {"column": "0"})
            require(one.commit() == sequence, "I7: a collector without room for a changed metric did not append")
            dropped = one.cardinality.dropped
            require(dropped == sequence - 1, f"I7: {dropped} samples were counted as dropped")
        counts["series dropped, counted and named"] += 3
        read(namespace, "s", 4, 1, counts)
        filler.give()
        one.record_metric("latency", 1)
        one.commit()
        require(one.writer.metrics["latency"] == new, "with room again a changed metric was not entered")
