"""Rings that come, go, grow, age and break, as a RingSet sees them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from exporter.rings import Ring, RingSet
from shm.files import unlink
from shm.ring.discovery import TrustedFiles
from shm.ring.frame import absent
from shm.ring.layout import FLAG_TICK, HEADER_BYTES, STALE_NAN_BITS, WORD_CATALOG_USED, WORD_HEAD
from shm.ring.reader import RingReader
from tests.exporter.scene import INTERVAL, NOW_NS, SECOND, Scene
from tests.rings import open_writer, overwrite, put_word

ROOM = {"room": "a"}
OTHER = {"room": "b"}


def latest(ring: Ring) -> dict[str, float]:
    """The samples that are there, by metric and label values."""
    gone = absent(ring.latest)
    return {
        ",".join((series.metric.name, *series.label_values)): float(ring.latest[series.column])
        for series in ring.series
        if series.column < len(ring.latest) and not gone[series.column]
    }


def only(rings: RingSet) -> Ring:
    [ring] = rings.refresh()
    return ring


# ---- stale ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("interval", "allowed"), [(1, 3.0), (15, 3.0), (15, 5.0)])
def test_a_source_is_stale_after_so_many_of_its_own_intervals(scene: Scene, interval: int, allowed: float) -> None:
    scene.collector("s", interval_seconds=interval)
    scene.commit("s", ("packets", 1.0))
    rings = scene.rings(stale_intervals=allowed)
    scene.advance(allowed * interval)
    assert not rings.is_stale(only(rings))
    scene.advance(0.001)
    assert rings.is_stale(only(rings))
    scene.commit("s", ("packets", 2.0))
    assert not rings.is_stale(only(rings))


def test_setting_the_wall_clock_makes_no_source_stale(scene: Scene) -> None:
    scene.commit("s", ("packets", 1.0))
    scene.wall_ns += 3600 * SECOND
    rings = scene.rings()
    assert not rings.is_stale(only(rings))
    assert only(rings).age_seconds(scene.monotonic_ns + 5 * SECOND, scene.wall_ns) == 5.0


def test_a_frame_of_an_earlier_boot_ages_by_the_wall_clock(scene: Scene) -> None:
    scene.commit("s", ("packets", 1.0))
    ring = only(scene.rings())
    assert ring.age_seconds(0, scene.wall_ns + 7 * SECOND) == 7.0
    assert ring.age_seconds(0, scene.wall_ns - 7 * SECOND) == 0.0


def test_a_ring_without_frames_is_stale_and_has_no_samples(scene: Scene) -> None:
    scene.collector("s")
    rings = scene.rings()
    ring = only(rings)
    assert (ring.sequence, rings.is_stale(ring), latest(ring)) == (0, True, {})


# ---- what is read, and when --------------------------------------------------------------------------------------


def test_a_head_that_promises_more_than_there_is_is_looked_at_again(scene: Scene) -> None:
    collector = scene.collector("s")
    scene.commit("s", ("packets", 1.0))
    rings = scene.rings()
    put_word(collector.writer, WORD_HEAD, 2)  # as seen when the stores of a frame arrive in another order
    assert only(rings).sequence == 1
    put_word(collector.writer, WORD_HEAD, 1)
    scene.commit("s", ("packets", 2.0))
    assert latest(only(rings)) == {"packets": 2.0}


def test_the_samples_are_those_of_the_newest_frame_alone(scene: Scene) -> None:
    scene.commit("s", ("temperature", 1.0, ROOM), ("temperature", 2.0, OTHER), ("packets", 5.0))
    rings = scene.rings()
    assert latest(only(rings)) == {"temperature,a": 1.0, "temperature,b": 2.0, "packets": 5.0}
    scene.advance(INTERVAL)
    scene.commit("s", ("temperature", 3.0, ROOM))
    assert latest(only(rings)) == {"temperature,a": 3.0}


# ---- timestamps of their own -------------------------------------------------------------------------------------


Recorded = tuple[float, float, dict[str, str]]  # value, seconds ago, labels


@pytest.mark.parametrize(
    ("apart", "together", "expected"),
    [
        pytest.param([(7.0, 3, ROOM)], [(1.0, OTHER)], {"a": 7.0, "b": 1.0}, id="in another series"),
        pytest.param([(1.0, 5, ROOM), (3.0, -1, ROOM)], [(2.0, ROOM)], {"a": 3.0}, id="the latest has come before"),
        pytest.param([(4.0, 5, ROOM)], [(5.0, ROOM)], {"a": 5.0}, id="earlier than the collection"),
        pytest.param([(1.0, 2, ROOM), (2.0, 2, ROOM)], [], {"a": 2.0}, id="of one time the second"),
        pytest.param(
            [(1.0, 3 * INTERVAL, ROOM), (2.0, 3 * INTERVAL - 1, OTHER)], [], {"b": 2.0}, id="too old to be news"
        ),
    ],
)
def test_of_a_series_the_sample_with_the_latest_timestamp_is_the_latest(
    scene: Scene, apart: list[Recorded], together: list[tuple[float, dict[str, str]]], expected: dict[str, float]
) -> None:
    for value, seconds_ago, labels in apart:
        at = (scene.wall_ns - seconds_ago * SECOND) / SECOND
        scene.collector("s").record_metric("temperature", value, labels, at)
    scene.commit("s", *(("temperature", value, labels) for value, labels in together))
    rings = scene.rings()
    assert latest(only(rings)) == {f"temperature,{room}": value for room, value in expected.items()}
    scene.advance(INTERVAL)
    scene.commit("s", ("temperature", 2.0, OTHER))  # a whole collection without the others: they are absent now
    assert latest(only(rings)) == {"temperature,b": 2.0}


STALE = np.uint64(STALE_NAN_BITS).view(np.float64)


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        pytest.param(
            [
                ([1.0, 2.0, STALE], 0, 0, FLAG_TICK),
                ([9.0, 5.0, 6.0], -1, 1, 0),
                ([STALE, 7.0, STALE], -1, 2, 0),
                ([STALE, STALE, 6.0], 1, 1, 0),
                ([STALE, STALE, 8.0], 1, 2, 0),
            ],
            [1.0, 2.0, 8.0],
            id="after the newest collection, laid over it",
        ),
        pytest.param(
            [([STALE, 5.0, STALE], -2, 0, 0), ([1.0, STALE, STALE], 0, 1, FLAG_TICK)],
            [1.0, None, None],
            id="from before the newest collection, no part of it",
        ),
        pytest.param(
            [([float(i), STALE, 1.0] if i % 2 else [STALE, float(i), 1.0], i, i, 0) for i in range(100)],
            [99.0, 98.0, 1.0],
            id="no collection at all",
        ),
    ],
)
def test_frames_apart_have_columns_of_their_own(
    namespace: str, scene: Scene, frames: list[tuple[list[float], int, int, int]], expected: list[float | None]
) -> None:
    with open_writer(namespace, columns=3, capacity=128) as writer:
        for values, wall_seconds, monotonic_seconds, flags in frames:
            writer.append(
                values, NOW_NS + wall_seconds * SECOND, scene.monotonic_ns + monotonic_seconds * SECOND, flags
            )
        found = only(scene.rings()).latest[:3]
        assert [None if gone else one for one, gone in zip(found.tolist(), absent(found), strict=True)] == expected


# ---- segments that come and go -----------------------------------------------------------------------------------


def test_a_ring_that_outgrew_its_segment_is_followed_without_losing_a_scrape(scene: Scene) -> None:
    rings = scene.rings()
    inodes = set()
    for count in range(1, 60):
        scene.commit("s", *(("temperature", float(i), {"room": str(i)}) for i in range(count)))
        assert len(latest(only(rings))) == count
        inodes.add(os.stat(scene.path("s")).st_ino)
    assert len(inodes) > 2
    assert rings.error_counts == {}


def test_a_removed_ring_disappears_and_a_new_one_of_its_name_is_found(scene: Scene) -> None:
    scene.commit("s", ("packets", 1.0))
    scene.commit("t", ("packets", 1.0))
    rings = scene.rings()
    rings.refresh()
    scene.collectors.pop("s").close()
    unlink(scene.namespace, "s")
    assert [ring.source for ring in rings.refresh()] == ["t"]
    assert rings.errors == {}
    assert rings.error_counts == {}
    scene.commit("s", ("packets", 5.0))
    assert [latest(ring) for ring in rings.refresh()] == [{"packets": 5.0}, {"packets": 1.0}]


def test_a_ring_removed_between_listing_and_opening_is_no_error(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.commit("s", ("packets", 1.0))
    rings = scene.rings()
    names = [scene.path(source).name for source in ("gone", "s")]
    monkeypatch.setattr(TrustedFiles, "names", lambda self: names)
    assert [ring.source for ring in rings.refresh()] == ["s"]
    assert rings.error_counts == {}


# ---- damage ------------------------------------------------------------------------------------------------------


def bad_magic(path: Path) -> None:
    overwrite(path, 0, b"NORING!!")


def truncated(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def with_a_hole(path: Path) -> None:
    size = path.stat().st_size
    os.truncate(path, 4096)
    os.truncate(path, size)


@pytest.mark.parametrize(
    ("damage", "opened"),
    [(bad_magic, False), (truncated, False), (with_a_hole, False), (truncated, True), (with_a_hole, True)],
)
def test_a_damaged_ring_costs_that_ring_alone_and_is_back_when_mended(
    scene: Scene, damage: Callable[[Path], None], opened: bool
) -> None:
    for source in ("bad", "good"):
        scene.commit(source, ("packets", 1.0))
    rings, path = scene.rings(), scene.path("bad")
    if opened:
        rings.refresh()
    scene.collectors.pop("bad").close()
    whole = path.read_bytes()
    damage(path)
    assert [ring.source for ring in rings.refresh()] == ["good"]
    assert rings.errors.keys() == {"bad"}
    assert "'bad'" in rings.errors["bad"]
    rings.refresh()
    assert rings.error_counts == {"bad": 2}
    path.write_bytes(whole)
    assert [latest(ring) for ring in rings.refresh()] == [{"packets": 1.0}] * 2
    assert rings.errors == {}
    assert rings.counts().errors == {"bad": 2}


def test_a_ring_of_another_user_is_only_counted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.commit("s", ("packets", 1.0))
    rings = scene.rings(owner=os.geteuid() + 1)
    monkeypatch.setattr("exporter.rings.RingReader", lambda *_, **__: pytest.fail("opened"))
    assert rings.refresh() == []
    assert (rings.errors, rings.error_counts) == ({}, {})
    assert rings.files.foreign == {scene.path("s").name: os.geteuid()}
    monkeypatch.undo()
    assert [ring.source for ring in scene.rings(owner=os.geteuid()).refresh()] == ["s"]
    scene.path("s").unlink()
    rings.refresh()
    assert rings.errors == {}, "it is gone, and so is its error"


def test_garbage_in_the_catalog_keeps_what_was_proven_before_it(scene: Scene) -> None:
    scene.commit("s", ("temperature", 1.0, ROOM))
    with RingReader(scene.namespace, "s") as reader:
        used = reader.catalog.used
    scene.commit("s", ("temperature", 2.0, ROOM), ("temperature", 3.0, OTHER))
    at = HEADER_BYTES + used + 20
    whole = scene.path("s").read_bytes()[at]
    overwrite(scene.path("s"), at, bytes([whole ^ 1]))
    rings = scene.rings()
    assert latest(only(rings)) == {"temperature,a": 2.0}
    assert rings.errors["s"].startswith("ring 's': catalog entry at byte ")
    assert "does not hold its seal" in rings.errors["s"]
    assert rings.error_counts["s"] == 1
    overwrite(scene.path("s"), at, bytes([whole]))
    assert latest(only(rings)) == {"temperature,a": 2.0, "temperature,b": 3.0}
    assert rings.errors == {}


def test_a_catalog_that_ends_before_the_newest_frame_s_columns_is_an_error_though_nothing_announces_more(
    scene: Scene,
) -> None:
    scene.commit("s", ("temperature", 1.0, ROOM), ("temperature", 2.0, OTHER))
    at = HEADER_BYTES + 20  # in the first entry
    whole = scene.path("s").read_bytes()
    overwrite(scene.path("s"), at, bytes([whole[at] ^ 1]))
    overwrite(scene.path("s"), WORD_CATALOG_USED * 8, bytes(8))
    rings = scene.rings()
    assert latest(only(rings)) == {}
    assert rings.errors == {"s": "ring 's': the count of frame 1 is 2, but its catalog names 0 columns"}
    overwrite(scene.path("s"), 0, whole)
    rings.close()
    assert latest(only(rings)) == {"temperature,a": 1.0, "temperature,b": 2.0}
    assert rings.errors == {}


def test_a_slot_that_is_not_whole_is_skipped_and_counted(scene: Scene) -> None:
    scene.commit("s", ("packets", 1.0))
    scene.commit("s", ("packets", 2.0))
    header = scene.collector("s").writer.header
    overwrite(scene.path("s"), header.slot_offset(2) + 20, b"\xff")
    rings = scene.rings()
    assert latest(only(rings)) == {"packets": 1.0}
    assert rings.counts().skipped_frames == {"s": 1}
    assert len(only(rings).reader.frames(None, None).sequence) == 1
    scene.collectors.pop("s").close()
    unlink(scene.namespace, "s")
    rings.refresh()
    assert rings.counts() == (Counter(), Counter())  # nothing is kept of a ring that is gone


def test_any_exception_of_a_ring_is_that_ring_s(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scene.commit("bad", ("packets", 1.0))
    scene.commit("good", ("packets", 1.0))
    whole = RingReader.latest

    def fails(self: RingReader) -> object:
        if self.source == "bad":
            raise ZeroDivisionError("of the test")
        return whole(self)

    monkeypatch.setattr(RingReader, "latest", fails)
    rings = scene.rings()
    assert [ring.source for ring in rings.refresh()] == ["good"]
    assert rings.errors == {"bad": "ring 'bad': ZeroDivisionError: of the test"}
    assert "ring can't be read" in caplog.text
    monkeypatch.undo()
    assert len(rings.refresh()) == 2


def test_an_error_is_logged_once_while_it_lasts_and_so_is_its_end(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    scene.commit("s", ("packets", 1.0))
    magic = scene.path("s").read_bytes()[:8]
    bad_magic(scene.path("s"))
    rings = scene.rings()
    for _ in range(3):
        rings.refresh()
    overwrite(scene.path("s"), 0, magic)
    for _ in range(3):
        rings.refresh()
    assert [record.message for record in caplog.records] == ["ring refused", "ring readable again"]


# ---- windows and writers -----------------------------------------------------------------------------------------


def test_nothing_stays_open_once_a_set_is_closed(scene: Scene) -> None:
    scene.commit("s", ("packets", 1.0))
    rings = scene.rings()
    rings.refresh()
    lines = Path("/proc/self/maps").read_text().splitlines()
    assert sorted(line.split()[1] for line in lines if line.endswith(str(scene.path("s")))) == ["r--s", "rw-s"]
    rings.close()
    assert rings.rings == {}
    mapped = Path("/proc/self/maps").read_text().count(str(scene.path("s")))
    assert mapped == 1  # the writer's
    opened = [os.readlink(link.path) for link in os.scandir("/proc/self/fd") if os.path.islink(link.path)]
    assert opened.count(str(scene.path("s"))) <= 2  # the writer's and its map's
