"""The directory as a whole: what is read, what is left out, and that one bad file costs only itself, by name."""

from __future__ import annotations

import logging
import math
import os
import time
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, write_to_textfile
from prometheus_client.core import GaugeHistogramMetricFamily, GaugeMetricFamily, HistogramMetricFamily

from collector.frame.collector import MetricCollector
from collector.source import Collection
from collector.sources.textfile import TextfileOptions, TextfileSource, reading, source
from shm.errors import ConfigurationError
from tests.collector.sources.test_custom_collector import Given
from tests.rings import newest

OWN = ("node_textfile_mtime_seconds", "textfile_error", "node_textfile_scrape_error")


def textfile(directory: Path, **options: float) -> TextfileSource:
    return TextfileSource(TextfileOptions(str(directory), **options))  # type: ignore[arg-type]  # of each key its type


def values(found: Collection, *names: str) -> dict[tuple[str, ...], float | None]:
    """By name and label values; of ``names``, else of all that is not the source's own."""
    return {
        (sample.metric, *(Path(value).name for value in sample.labels.values())): sample.value
        for sample in found.samples
        if (sample.metric in names if names else sample.metric not in OWN)
    }


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "texts"
    path.mkdir()
    return path


def test_only_files_with_the_ending_are_read_and_no_hidden_ones(directory: Path) -> None:
    (directory / "a.prom").write_text("a 1\n")
    (directory / ".b.prom").write_text("b 1\n")
    (directory / "c.prom.1234").write_text("c 1\n")
    (directory / "below").mkdir()
    (directory / "below" / "d.prom").write_text("d 1\n")
    (directory / "e.prom").symlink_to(directory / "below" / "d.prom")
    found = textfile(directory).collect()
    assert values(found) == {("a",): 1.0, ("d",): 1.0}
    assert not found.errors
    assert found.up


def test_a_bad_file_costs_only_itself_by_name(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.utime((directory / "a.prom").write_text("a 1\n") and directory / "a.prom", (1000, 1234.5))
    (directory / "b.prom").write_text("b 1\nb x\n")
    (directory / "c.prom").mkdir()
    os.mkfifo(directory / "d.prom")
    (directory / "e.prom").write_text("# TYPE a gauge\na 2\ne 1\n")
    (directory / "f.prom").write_text("f 1\n")
    one = textfile(directory)
    found = one.collect()
    assert values(found) == {("a",): 1.0, ("e",): 1.0, ("f",): 1.0}
    assert found.up
    assert [error.removeprefix(f"{directory}/") for error in found.errors] == [
        "b.prom: line 2: the value 'x' is not a number; write one such as 17, 1.5e-3, +Inf or NaN",
        "c.prom: it is a directory, and only regular files are read; remove or rename it",
        "d.prom: it is a FIFO, and only regular files are read; remove or rename it",
        f"e.prom: line 2: a is of type gauge with the labels (), but in {directory}/a.prom untyped with the labels (); "
        "rename one, or make them the same",
    ]
    errors = {name[1]: value for name, value in values(found, "textfile_error").items()}
    assert errors == {"a.prom": 0, "b.prom": 1, "c.prom": 1, "d.prom": 1, "e.prom": 1, "f.prom": 0}
    mtimes = values(found, "node_textfile_mtime_seconds")
    assert mtimes["node_textfile_mtime_seconds", "a.prom"] == 1234.5
    assert {name[1] for name in mtimes} == {"a.prom", "e.prom", "f.prom"}
    assert values(found, "node_textfile_scrape_error") == {("node_textfile_scrape_error",): 1.0}
    assert [record.message for record in caplog.records] == [*["textfile refused"] * 3, "textfile read in part"]
    # Said once, while it stays so; and again when it is another mistake.
    one.collect()
    assert len(caplog.records) == 4
    (directory / "b.prom").write_text("b y\n")
    one.collect()
    assert caplog.records[4].__dict__["error"].startswith("line 1: the value 'y'")
    with caplog.at_level(logging.INFO):
        (directory / "b.prom").write_text("b 7\n")
        assert values(one.collect())["b",] == 7.0
    assert caplog.records[5].message == "textfile read again"


def test_families_that_no_ring_can_hold_are_left_out_by_name_and_the_others_of_the_file_are_served(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    registry = CollectorRegistry()
    ages = GaugeHistogramMetricFamily("age", "A.", buckets=[("1", 2), ("+Inf", 3)], gsum_value=4)
    below = HistogramMetricFamily("below", "B.", buckets=[("-1", 2), ("+Inf", 3)], sum_value=None)
    long, wide = (
        GaugeMetricFamily("l" * 201, "L.", 5),
        GaugeMetricFamily("wide", "W.", labels=[f"l{n}" for n in range(33)]),
    )
    wide.add_metric(["1"] * 33, 6)
    registry.register(Given(ages, below, long, wide, GaugeMetricFamily("last", "L.", 7)))  # type: ignore[arg-type]
    path = directory / "a.prom"
    write_to_textfile(str(path), registry)
    one = textfile(directory)
    found = one.collect()
    assert values(found) == {
        ("age_bucket", "1"): 2.0, ("age_bucket", "+Inf"): 3.0, ("age_gcount",): 3.0, ("age_gsum",): 4.0,
        ("below_bucket", "-1"): 2.0, ("below_bucket", "+Inf"): 3.0, ("last",): 7.0,
    }  # fmt: skip
    assert len(found.errors) == 2
    assert "metric name has 201 characters; at most 200" in found.errors[0]
    assert "metric 'wide' has 33 labels; at most 32" in found.errors[1]
    assert values(found, "textfile_error") == {("textfile_error", "a.prom"): 1}
    [said] = caplog.records
    assert said.message == "textfile read in part"
    assert "201" in said.__dict__["error"]
    assert "'wide'" in said.__dict__["error"]
    path.write_text("".join(f'n{number}{{stat="x"}} 1\n' for number in range(30)) + "last 8\n")
    found = one.collect()
    assert values(found) == {("last",): 8.0}
    assert len(found.errors) == 11
    assert found.errors[-1] == f"{path}: 20 more errors of this kind"


def test_a_file_that_is_read_in_part_keeps_what_it_has_when_another_comes(directory: Path) -> None:
    (directory / "b.prom").write_text('x{host="1"} 1\nb{stat="x"} 1\n')
    one = textfile(directory)
    one.collect()
    (directory / "a.prom").write_text("x 5\n")
    for _ in range(3):
        assert values(one.collect()) == {("x", "1"): 1.0}


def test_a_new_file_takes_nothing_from_one_that_was_good_before(directory: Path) -> None:
    (directory / "b.prom").write_text('x{host="1"} 1\n')
    one = textfile(directory)
    one.collect()
    (directory / "a.prom").write_text("x 5\n")
    found = one.collect()
    assert values(found) == {("x", "1"): 1.0}
    assert found.errors[0].startswith(f"{directory}/a.prom: line 1: x is of type untyped with the labels ()")
    (directory / "b.prom").unlink()
    assert values(one.collect()) == {("x",): 5.0}


def test_a_file_past_its_age_is_absent_and_named_once(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = directory / "a.prom"
    path.write_text("a 1\n")
    now = time.time()
    os.utime(path, (now - 100, now - 100))
    assert values(textfile(directory).collect()) == {("a",): 1.0}, "0 is no limit"
    assert values(textfile(directory, max_age_seconds=200).collect()) == {("a",): 1.0}
    one = textfile(directory, max_age_seconds=50)
    for _ in range(2):
        found = one.collect()
        assert values(found) == {}
        assert not found.errors
        assert values(found, "textfile_error") == {("textfile_error", "a.prom"): 0}
        assert math.isclose(values(found, OWN[0])[OWN[0], "a.prom"] or 0, now - 100, abs_tol=0.01)
    [said] = caplog.records
    assert (said.message, said.__dict__["file"]) == ("textfile too old", str(path))
    os.utime(path)
    assert values(one.collect()) == {("a",): 1.0}


def test_a_file_is_as_large_and_files_are_as_many_as_allowed(directory: Path) -> None:
    for name in "abc":
        (directory / f"{name}.prom").write_text(f"{name} 1\n")
    assert len(values(textfile(directory, max_file_bytes=4, max_files=3).collect())) == 3
    found = textfile(directory, max_file_bytes=3).collect()
    assert values(found) == {}
    assert "it has 4 bytes, more than 3" in found.errors[0]
    found = textfile(directory, max_files=2).collect()
    assert values(found) == {("a",): 1.0, ("b",): 1.0}
    assert found.errors == [
        f"{directory} has 3 files, more than 2, so these are not read: c.prom; remove some, or raise "
        "[source.textfile] max_files"
    ]
    assert values(found, "node_textfile_scrape_error") == {("node_textfile_scrape_error",): 1.0}


def test_what_found_no_room_is_not_kept_and_comes_when_there_is_some(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_MOST_SAMPLES", 3)
    monkeypatch.setattr(source, "_SETTLED_NS", -1)
    for number in range(4):
        (directory / f"{number}.prom").write_text(f"a{number} 1\nb{number} 1\n")
    one = textfile(directory)
    for _ in range(2):
        found = one.collect()
        assert set(values(found)) == {("a0",), ("b0",)}
        assert "there would be more than 3" in found.errors[0]
    (directory / "0.prom").unlink()
    assert set(values(one.collect())) == {("a1",), ("b1",)}


def test_a_file_that_was_written_just_now_is_read_again_though_it_looks_the_same(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written twice within a step of the file's clock, it has the times that it had."""
    one, path = textfile(directory), directory / "a.prom"
    path.write_text("a 1\n")
    assert values(one.collect()) == {("a",): 1.0}
    state = reading.state_of(str(path), 100)
    monkeypatch.setattr(reading, "state_of", lambda *arguments: state)
    path.write_text("a 2\n")
    assert values(one.collect()) == {("a",): 2.0}


def test_a_directory_that_is_not_there_is_a_source_that_is_down(directory: Path) -> None:
    found = textfile(directory / "nowhere").collect()
    assert not found.up
    assert found.errors[0].startswith(
        f"the directory {directory}/nowhere can't be read: No such file or directory; make"
    )
    assert values(found, "node_textfile_scrape_error") == {("node_textfile_scrape_error",): 1}


def test_a_file_that_goes_between_listing_and_reading_is_no_error(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "_listed", lambda path: ["gone.prom"])
    found = textfile(directory).collect()
    assert not found.errors
    assert values(found, "textfile_error") == {}


def test_a_name_that_is_not_utf8_is_a_label_all_the_same(directory: Path) -> None:
    (directory / os.fsdecode(b"a\xff.prom")).write_text("a 1\n")
    assert values(textfile(directory).collect(), "textfile_error") == {("textfile_error", "a\\xff.prom"): 0}


def test_a_directory_is_absolute_and_short() -> None:
    for wrong, said in (("texts", "give an absolute path"), ("/" + "x" * 700, "has 701 characters")):
        with pytest.raises(ConfigurationError, match=said):
            TextfileSource(TextfileOptions(wrong))


# ---- in a ring -------------------------------------------------------------------------------------------------


HISTOGRAM = '# TYPE h histogram\nh_bucket{le="1"} 1\nh_bucket{le="5"} 2\nh_sum 9\nh_count 3\n'


def test_metrics_come_and_go_and_change_their_type_and_nothing_is_killed(directory: Path, namespace: str) -> None:
    one = textfile(directory)
    with MetricCollector("textfile", namespace=namespace, capacity=64) as collector:
        collector.register(*one.metrics)

        def frame() -> dict[tuple[str, ...], list[float | None]]:
            [result] = collector.collect_from_sources([one], 5)
            assert not result.errors, result.errors
            collector.commit()
            return {key: row for key, row in newest(namespace, "textfile").items() if key[0] not in OWN}

        path = directory / "a.prom"
        path.write_text(f"# HELP x Once.\n# TYPE x gauge\nx 1\n{HISTOGRAM}")
        assert frame() == {("x",): [1.0], ("h",): [None, 1.0, 2.0, 3.0, 9.0]}
        path.write_text("# HELP x Twice.\n# TYPE x gauge\nx 2\n")
        assert frame() == {("x",): [2.0], ("h",): [None] * 5}
        path.write_text(f'x{{a="1"}} 3\n{HISTOGRAM.replace("5", "6")}')
        assert frame() == {("x", "1"): [3.0], ("h",): [None, 1.0, 2.0, 3.0, 9.0]}
        path.write_text("# TYPE h gauge\nh -4\n")
        assert frame() == {("x", "1"): [None], ("h",): [-4.0]}
        path.unlink()
        assert frame() == {("x", "1"): [None], ("h",): [None]}
