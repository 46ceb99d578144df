"""Snapshots are taken beside the ticks and at the end; what a disk does wrong is said once and stops nothing."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest

from collector import metrics
from collector.__main__ import main
from collector.frame.collector import MetricCollector
from collector.loop.disk_copies import Snapshots
from collector.loop.selfmetrics import SelfMetrics
from shm.files import ring_path
from shm.ring import disk_copy
from shm.ring.reader import RingReader
from tests.collector.processes import run_until
from tests.programs import wait_until
from tests.rings import append_proof, newest, open_writer


def test_snapshots_are_taken_again_and_again_and_a_last_one_at_the_end(namespace: str, tmp_path: Path) -> None:
    with open_writer(namespace, columns=1) as writer:
        append_proof(writer)
        snapshots = Snapshots(tmp_path, namespace, "s", 0.02)
        snapshots.start()
        file = disk_copy.file_of(tmp_path, namespace, "s")
        first = wait_until(lambda: file.exists() and file.stat().st_ino, 10, "the first snapshot")
        wait_until(lambda: file.stat().st_ino != first, 10, "the next one")
        append_proof(writer)
        snapshots.finish(writer)
    assert abs((snapshots.last_seconds or 0.0) - time.time()) < 60
    ring_path(namespace, "s").unlink()
    stored = disk_copy.load(tmp_path, namespace, "s")
    assert stored is not None
    assert stored.history() == [1, 2]
    stored.close()


def test_the_end_before_the_first_one_takes_one(namespace: str, tmp_path: Path) -> None:
    with open_writer(namespace, columns=1) as writer:
        append_proof(writer)
        snapshots = Snapshots(tmp_path, namespace, "s", 3600)
        snapshots.finish(writer)  # also of a collector that ended before it ticked
    assert disk_copy.file_of(tmp_path, namespace, "s").exists()


def test_the_time_of_the_last_one_is_known_after_a_restart(namespace: str, tmp_path: Path) -> None:
    file = disk_copy.file_of(tmp_path, namespace, "s")
    file.touch()
    os.utime(file, (1_000_000, 1_000_000))
    assert Snapshots(tmp_path, namespace, "s", 300).last_seconds == 1_000_000


def test_a_directory_that_can_not_be_used_is_said_once_and_so_is_that_it_can_again(
    namespace: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    directory = tmp_path / "directory"
    directory.touch()  # a file
    with open_writer(namespace, columns=1) as writer:
        append_proof(writer)
        snapshots = Snapshots(directory, namespace, "s", 3600)
        snapshots.finish(writer)
        snapshots.finish(writer)
        assert caplog.messages == ["snapshot failed"]
        assert "File exists" in str(getattr(caplog.records[0], "error", ""))
        directory.unlink()
        snapshots.finish(writer)
    assert caplog.messages == ["snapshot failed", "snapshots work again"]


def test_the_time_of_the_last_snapshot_is_a_series_of_the_ring(namespace: str, tmp_path: Path) -> None:
    with MetricCollector("s", namespace=namespace, capacity=8) as collector:
        snapshots = Snapshots(tmp_path, namespace, "s", 3600)
        own = SelfMetrics(collector, "s", snapshots)
        own.record(True, 0.1, time.time_ns())
        collector.commit()
        own_metric = (metrics.LAST_SNAPSHOT.name, "s")
        assert own_metric not in newest(namespace, "s"), "absent until there is one"
        snapshots.finish(collector.writer)
        own.record(True, 0.1, time.time_ns())
        collector.commit()
        assert newest(namespace, "s")[own_metric] == [snapshots.last_seconds]


def test_a_collector_takes_up_its_history_after_shared_memory_was_emptied(
    namespace: str, toml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml.write_text(f'{toml.read_text()}capacity = 64\nsnapshot_dir = "{tmp_path}/snapshots"\n')

    def stamps(frames: int) -> list[int]:
        """The timestamps in the ring after a run of so many frames."""
        run_until(toml, namespace, "system", frames)
        with RingReader(namespace, "system") as reader:
            return list(reader.frames().timestamp_ns)

    before = stamps(5)
    ring_path(namespace, "system").unlink()
    after = stamps(len(before) + 3)
    assert after[: len(before)] == before
    assert len(after) > len(before)

    assert main(["system", "--unlink", "--config", str(toml)]) == 0
    assert capsys.readouterr().out.count("removed ") == 2
    assert not list((tmp_path / "snapshots").iterdir())


def test_values_that_add_up_begin_anew_after_a_snapshot_that_lacks_published_frames(
    namespace: str, tmp_path: Path
) -> None:
    """Restored below what was scraped, a counter would be a reset to Prometheus, and all of it would count as new."""

    def counted(observations: int) -> tuple[float | None, float | None]:
        """The count of a histogram and a counter of the collector's own, after that many ticks."""
        with MetricCollector("s", namespace=namespace, capacity=32, snapshot_dir=tmp_path) as collector:
            collector.register_metric("latency", "histogram", buckets=(1.0,))
            own = SelfMetrics(collector, "s")
            for _ in range(observations):
                collector.record_metric("latency", 0.5)
                own.count(metrics.ERRORS)
                own.record(True, 0.1, time.time_ns())
                collector.commit()
            found = newest(namespace, "s")
            snapshots = Snapshots(tmp_path, namespace, "s", 3600)
            if observations == 5:
                disk_copy.take(tmp_path, namespace, "s")  # after which the writer goes on
            elif observations == 4:
                snapshots.finish(collector.writer)
            return found["latency",][2], found[metrics.ERRORS.name, "s"][0]

    assert counted(5) == (5, 5)
    assert counted(2) == (7, 7), "a restart"
    ring_path(namespace, "s").unlink()
    assert counted(1) == (1, 1), "a crash, and a snapshot from before it"
    assert counted(4) == (5, 5)
    ring_path(namespace, "s").unlink()
    assert counted(3) == (8, 8), "an orderly end, and its snapshot"
