"""``python -m collector`` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.__main__ import main
from collector.frame.collector import MetricCollector
from collector.source import CollectResult, MetricSource, Sample
from shm.files import ring_path
from shm.metric import Metric
from shm.ring.reader import RingReader
from tests.collector.processes import collecting, run_until
from tests.rings import ROOT, files_of, newest, remove_files_of


class Refused(MetricSource):
    name = "refused"
    metrics = (Metric("depth", "gauge", "Jobs.", "jobs", ("queue",)), Metric("size", "summary", "Size."))

    def collect(self) -> CollectResult:
        good = {"queue": "a"}
        bad: Any = {"queue": 7}
        late = Sample("depth", 1, good, 1e13)
        return [Sample("depth", 1, good), Sample("depth", 1, bad), Sample("width", 1), late, Sample("size", 1)]


class Closes(MetricSource):
    name = "closes"
    metrics = (Metric("depth", "gauge", "Jobs."),)

    async def open(self) -> None:
        print("opened")

    def collect(self) -> CollectResult:
        return [Sample("depth", 1)]

    async def close(self) -> None:
        print("closed")
        raise OSError("too late")


class Many(MetricSource):
    name = "many"
    metrics = (Metric("depth", "gauge", "Jobs.", "jobs", ("queue",)),)

    def collect(self) -> CollectResult:
        return [Sample("depth", 1, {"queue": f'{i}\n"\\'}) for i in range(3)]


class Twice(MetricSource):
    name = "twice"
    metrics = (Metric("depth", "gauge", "Jobs.", "jobs", ("queue",)),)

    def collect(self) -> CollectResult:
        return [Sample("depth", value, {"queue": "a"}) for value in (41, 87)]


def parsed(text: str) -> object:
    return json.loads(text)  # HERE it fails


class Fails(MetricSource):
    """Fails in the method that ``where`` names; in collect(), in each of the ways that a source has."""

    name = "fails"
    metrics = ()

    def __init__(self, where: str) -> None:
        self.where = where
        if where == "made":
            parsed("{")

    def open(self) -> None:
        if self.where == "open":
            parsed("{")

    def collect(self) -> CollectResult | Awaitable[CollectResult]:
        if self.where == "plain":
            parsed("{")
        return self.later() if self.where == "async" else (Sample(f"{parsed('{')}", 1) for _ in "1")

    async def later(self) -> CollectResult:
        parsed("{")
        return []


class FailsAsACustomCollector:
    def collect(self) -> Iterator[object]:
        yield parsed("{")


class Exits(Closes):
    name = "exits"

    def collect(self) -> CollectResult:
        sys.exit(3)  # HERE it ends


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_collector_ends_in_order_at_each_stop_signal_and_its_ring_stays(
    toml: Path, namespace: str, stop: signal.Signals
) -> None:
    log = run_until(toml, namespace, "node", 3, stop)
    assert "event=stopped source=node" in log
    assert "Traceback" not in log
    with RingReader(namespace, "node") as reader:
        assert reader.writer.pid == 0
        assert reader.newest_sequence() >= 3


def test_a_worker_carries_neither_numpy_nor_asyncio_nor_unused_tls(toml: Path, namespace: str) -> None:
    toml.write_text(f'{toml.read_text()}[source.host]\nenabled = true\n[source.textfile]\ndirectory = "/tmp"\n')
    for source in ("node", "system", "deployment", "betanet", "host", "textfile"):
        with collecting(toml, namespace, source, 1) as process:
            maps = Path(f"/proc/{process.pid}/maps").read_text()
        asks_over_http = source in ("deployment", "betanet")  # httpx imports ssl
        for heavy in ("numpy", "_asyncio", "uvloop", *(() if asks_over_http else ("_ssl",))):
            assert heavy not in maps, f"{source} carries {heavy}"


def test_an_old_spelling_of_a_key_is_a_warning_with_the_new_one(toml: Path, namespace: str) -> None:
    toml.write_text(f'{toml.read_text()}[source.host]\nenabled = true\ncadence_seconds = ["filesystem=60"]\n')
    log = run_until(toml, namespace, "host", 1)
    assert "level=warning" in log
    assert "write [source.host.cadence] filesystem = 60" in log


Once = Callable[..., tuple[int, str, str]]


@pytest.fixture
def once(toml: Path, capsys: pytest.CaptureFixture[str]) -> Once:
    """``--once`` of a source, with more lines of the configuration: its status, output and errors."""

    def collect(name: str, more: str = "") -> tuple[int, str, str]:
        toml.write_text(toml.read_text() + more)
        return main([name, "--once", "--config", str(toml)]), *capsys.readouterr()

    return collect


def test_once_of_a_source_that_is_off_says_why_it_is_off(once: Once) -> None:
    status, out, err = once("host")
    assert (status, err) == (0, "note: the daemon does not collect 'host': [source.host] enabled is false\n")
    assert "node_load1" in out


def test_once_prints_the_samples_and_writes_no_ring(once: Once, namespace: str) -> None:
    status, out, _ = once("system")
    assert status == 0
    assert out.startswith("system_uptime ")
    assert not ring_path(namespace, "system").exists()


@pytest.mark.parametrize(
    ("name", "key", "said"),
    [
        ("betanet", 'url = "http://127.0.0.1:9"', "error: http://127.0.0.1:9"),
        ("system", 'proc = "/nowhere"', "error: system_uptime: FileNotFoundError: "),
    ],
)
def test_once_of_a_source_that_is_down_or_reads_nothing_says_why(once: Once, name: str, key: str, said: str) -> None:
    status, _, err = once(name, f"[source.{name}]\n{key}\n")
    assert status == 1
    assert err.startswith(said)


def line_of(text: str) -> int:
    lines = Path(__file__).read_text().splitlines()
    return 1 + next(number for number, line in enumerate(lines) if line.endswith(text))


@pytest.mark.parametrize("where", ["open", "plain", "async", "generator", "made", "custom"])
def test_once_says_at_which_line_of_the_sources_code_it_failed(once: Once, where: str) -> None:
    name, cls, keys = ("fails", "Fails", f'where = "{where}"\n')
    if where == "custom":
        name, cls, keys = ("custom", "FailsAsACustomCollector", "")
    status, _, err = once(name, f'[source.{name}]\nclass = "{__name__}:{cls}"\n{keys}')
    assert status == (78 if where == "made" else 1)
    assert "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)" in err
    assert f"; raised at {__file__}:{line_of('# HERE it fails')} in parsed" in err
    assert err.count("\n") == 1


def test_once_says_at_which_line_a_source_would_have_ended_its_process(once: Once) -> None:
    status, _, err = once("exits", f'[source.exits]\nclass = "{__name__}:Exits"\n')
    assert status == 1
    assert f"raised SystemExit, which would end its process; raised at {__file__}:{line_of('# HERE it ends')}" in err


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("command", ["collector many --once", "fogmetrics.cli.check --config-only /"])
def test_a_command_whose_output_nobody_reads_ends_without_a_traceback(
    toml: Path, command: str, unbuffered: str
) -> None:
    toml.write_text(f'{toml.read_text()}[source.many]\nclass = "{__name__}:Many"\n')
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), "--config", str(toml)],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, cwd=ROOT, stdout=write, stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    os.close(write)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_once_tells_of_samples_that_the_daemon_would_refuse(once: Once) -> None:
    status, out, err = once("refused", f'[source.refused]\nclass = "{__name__}:Refused"\n')
    assert (status, out) == (1, 'depth{queue="a"} 1\n')
    assert err.count("error: ") == 4
    for words in (
        "summary 'size' got a value", "is 7, of type int", "metric 'width' is not among", "give Unix seconds",
    ):  # fmt: skip
        assert words in err


def test_unlink_removes_the_ring_on_purpose_but_not_under_a_writer(
    toml: Path, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with collecting(toml, namespace, "node", 1) as process:
        assert main(["node", "--unlink", "--config", str(toml)]) == 75
        assert f"process {process.pid} already writes to it" in capsys.readouterr().err
    assert ring_path(namespace, "node").exists()
    assert main(["node", "--unlink", "--config", str(toml)]) == 0
    assert capsys.readouterr().out == f"removed {ring_path(namespace, 'node')}\n"
    assert not ring_path(namespace, "node").exists()


def test_unlink_fails_where_there_is_nothing_to_remove_and_names_what_there_is(
    toml: Path, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def unlink(name: str) -> str:
        assert main([name, "--unlink", "--config", str(toml)]) == 1
        said = capsys.readouterr()
        assert said.out == ""
        begin = f"nothing to remove: no files of a source {name!r} in namespace '{namespace}' (configuration: {toml}); "
        assert said.err.startswith(begin)
        return said.err.removeprefix(begin)

    other = f"{namespace}-other"
    MetricCollector("node", namespace=other, capacity=8).close()
    try:
        assert other in unlink("nod").removeprefix("namespaces with files: ").strip().split(", ")
    finally:
        remove_files_of(other)
    assert files_of(namespace) == []
    MetricCollector("node", namespace=namespace, capacity=8).close()
    assert unlink("nod") == "did you mean 'node'?\n"
    assert unlink("system") == "sources with files there: node\n"
    assert main(["*", "--unlink", "--config", str(toml)]) == 78


def test_a_snapshot_dir_that_can_not_be_meant_is_a_mistake_in_the_configuration(
    toml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    toml.write_text(toml.read_text().replace("[shm]\n", '[shm]\nsnapshot_dir = "~/snapshots"\n'))
    assert main(["node", "--config", str(toml)]) == 78
    assert "[shm] snapshot_dir is '~/snapshots', but ~ is not expanded" in capsys.readouterr().err


def test_a_source_that_is_configured_away_ends_at_once_with_success_and_leaves_no_ring(
    toml: Path, namespace: str
) -> None:
    command = [sys.executable, "-m", "collector", "textfile", "--config", str(toml)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=20)
    assert 'event="source disabled" source=textfile reason="[source.textfile] directory is empty"' in run.stderr
    assert files_of(namespace) == []


def test_once_opens_and_closes_as_the_daemon_does(once: Once) -> None:
    assert once("closes", f'[source.closes]\nclass = "{__name__}:Closes"\n') == (0, "opened\nclosed\ndepth 1\n", "")


def test_a_series_given_twice_is_an_error_of_once_and_is_counted_by_the_daemon(
    once: Once, toml: Path, namespace: str
) -> None:
    status, out, err = once("twice", f'[source.twice]\nclass = "{__name__}:Twice"\n')
    assert (status, out) == (1, 'depth{queue="a"} 41\n')
    assert 'series depth{queue="a"} was given twice for one frame' in err
    assert "was given twice for one frame" in run_until(toml, namespace, "twice", 2)
    with RingReader(namespace, "twice") as reader:
        frames = reader.newest_sequence()
    found = newest(namespace, "twice")
    assert found["depth", "a"] == [41]
    assert found["collector_errors_total", "twice"] == [frames]


def test_once_prints_labels_as_a_page_has_them_and_tells_of_series_that_the_daemon_would_drop(
    once: Once, toml: Path
) -> None:
    status, out, _ = once("many", f'[source.many]\nclass = "{__name__}:Many"\n')
    assert status == 0
    assert out.splitlines()[0] == r'depth{queue="0\n\"\\"} 1'
    toml.write_text(toml.read_text().replace("[collector]\n", "[collector]\nmax_series_per_metric = 2\n"))
    status, _, err = once("many", "max_series = 1\n")
    assert status == 1
    one, all_ = err.splitlines()
    assert one.startswith("error: metric 'depth' has 3 series, more than max_series_per_metric, 2: the daemon drops")
    assert all_.startswith("error: the source has 3 series, more than max_series, 1: the daemon drops")


@pytest.mark.parametrize(
    ("table", "status", "told"),
    [
        ("max_series = 3", 0, ""),
        ("max_series = 2", 1, "error: metric 'depth' has 3 series, more than max_series, 2: the daemon drops"),
        (
            'max_series = 2\nbeyond = "oldest"', 0,
            "note: metric 'depth' has 3 series, more than max_series, 2: in the daemon",
        ),
        (
            "max_label_values = 2", 1,
            "error: label 'queue' of metric 'depth' has 3 values, more than max_label_values, 2: the daemon drops",
        ),
    ],
)  # fmt: skip
def test_once_goes_by_the_metrics_own_limits(once: Once, table: str, status: int, told: str) -> None:
    found, _, err = once("many", f'[source.many]\nclass = "{__name__}:Many"\n[metric.depth]\n{table}\n')
    assert found == status
    assert err.startswith(told)
    assert len(err.splitlines()) == bool(told)


def test_once_prints_the_samples_of_metrics_that_come_and_go(once: Once, tmp_path: Path) -> None:
    (tmp_path / "a.prom").write_text('a{b="c"} 1\n# TYPE h histogram\nh_bucket{le="1"} 1\nh_sum 2\nh_count 3\n')
    status, out, _ = once("textfile", f'[source.textfile]\ndirectory = "{tmp_path}"\n')
    assert status == 0
    assert 'a{b="c"} 1.0\n' in out
    assert "h [1.0, 3.0, 2.0]\n" in out


def test_limits_of_metrics_and_of_the_source_are_those_of_the_configuration(
    toml: Path, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "a.prom").write_text("".join(f'{name}{{k="{k}"}} 1\n' for name in ("a", "b") for k in range(5)))
    toml.write_text(
        f'{toml.read_text()}[source.textfile]\ndirectory = "{tmp_path}"\ncapacity = 77\nmax_series_per_metric = 3\n'
        '[metric."b*"]\nmax_series = 1\nbeyond = "oldest"\n'
    )
    log = run_until(toml, namespace, "textfile", 2)
    with RingReader(namespace, "textfile") as reader:
        assert reader.header.capacity == 77
    found = newest(namespace, "textfile")
    assert [key for key in found if key[0] in ("a", "b")] == [("a", "0"), ("a", "1"), ("a", "2"), ("b", "0")]
    assert found["collector_series_limited_total", "textfile", "a", "drop"][0] in (2, 4, 6, 8)
    assert found["collector_series_limited_total", "textfile", "b", "oldest"][0] in (4, 8, 12, 16)
    assert 'event="series dropped" ring=textfile metric=a error="the limit of 3 series of the metric is reached"' in log
    assert 'event="series pruned" ring=textfile metric=b error="the limit of 1 series of the metric is reached"' in log


def test_buckets_for_a_gauge_are_a_mistake_in_the_configuration(
    toml: Path, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    toml.write_text(toml.read_text() + "[metric.system_uptime]\nbuckets = [1.0]\n")
    assert main(["system", "--config", str(toml)]) == 78
    assert "[metric.system_uptime] buckets are for histograms, and system_uptime is a gauge" in capsys.readouterr().err
    assert files_of(namespace) == []
