"""Mistakes in a configuration: each is a sentence with key, value and remedy, and all of a file come at once."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest

from collector.__main__ import main as collector
from collector.source import MetricSource, Sample
from exporter.__main__ import main as exporter
from fogmetrics.cli.check import main as check


class Depth(MetricSource):
    name = "depth"
    metrics = ()

    def __init__(self, limit: int = 1) -> None:
        self.limit = limit

    def collect(self) -> list[Sample]:
        return []


class Width(Depth):
    name = "width"


class Dotted(Depth):
    name = "a.b"


class Rules(Depth):
    name = "rules"


class Queue(MetricSource):
    name = "queue"
    metrics = ()

    def __init__(self, depth: int = 1) -> None:
        raise OSError(f"depth {depth} is too deep")

    def collect(self) -> list[Sample]:
        return []


# (table, its lines, the message). A process that reads no more than the file finds those of FILE; those of CLASS need
# the class of the source or the host.
FILE = [
    ("", "prot = 1", "has the key 'prot' outside of any table; did you mean 'port' of [exporter]?"),
    ("exprter", "port = 1", "has no table 'exprter'; did you mean 'exporter'?"),
    ("betanet", 'url = "http://b"', "has no table 'betanet'; write [source.betanet]"),
    ("shm", "capacty = 100", "[shm] has no key 'capacty'; did you mean 'capacity'?"),
    ("shm", 'namespace = "a.b"', "[shm] namespace is 'a.b'; use 1 to 64 letters, digits"),
    ("shm", "snapshot_seconds = 0", "[shm] snapshot_seconds is 0; give a duration from 1s to 1d."),
    ("collector", "port = 9300", "[collector] has no key 'port'; port is a key of [exporter]"),
    (
        "collector", 'timeout_seconds = "15 s"',
        "[collector] timeout_seconds is '15 s'; give a duration, such as 15, \"15s\" or \"1h30m\"",
    ),
    (
        "collector", 'beyond = "other"',
        "[collector] beyond is 'other', which added up the series beyond a limit in one series and was removed; give",
    ),
    ("exporter", 'port = "9300"', "[exporter] port is '9300'; give a whole number, such as 15"),
    ("exporter", 'web_config = "a\\u0000"', "[exporter] web_config is 'a\\x00', which has a NUL; remove it"),
    ("exporter", "timestamps = true", "[exporter] timestamps is true; give one of counters, all, none"),
    ("exporter", "max_window = 1979-05-27", "[exporter] max_window is 1979-05-27; give a duration, such as 15,"),
    ("exporter", "nice = 20", "[exporter] nice is 20; give a number from 0 to 19."),
    ("exporter", 'window = "8d"', "[exporter] window is 8d, longer than max_window, 7d; lower the one or raise"),
    ("exporter", 'allowed_hosts = ["http://h"]', "[exporter] allowed_hosts has 'http://h', which matches no name of a"),
    ("log", 'level = "loud"', "[log] level is 'loud'; give one of debug, info, warning, error"),
    ("applications", 'users = "web"', "[applications] users is 'web'; give a list, such as [\"text\"]"),
    (
        "source.nod", "interval_seconds = 5",
        "[source.nod] is no source: did you mean 'node'? It has no class, and no installed package has an entry point",
    ),
    ("source.node", "interval_secs = 5", "[source.node] has no key 'interval_secs'; did you mean 'interval_seconds'?"),
    ("source.node", 'disk_path = "data"', "[source.node] disk_path is 'data'; give an absolute path, such as \"/\""),
    ("source.betanet", "interval_seconds = 5\ntimeout_seconds = 5", "[source.betanet] timeout_seconds is 5, but a"),
    ("source.betanet", "capacity = 7", "[source.betanet] capacity is 7; give 8 frames or more, or 0 for [shm]'s"),
    ("source.betanet", "buckets = [2, 1]", "[source.betanet] buckets can't be used: histogram 'betanet_latency' has"),
    ("source.host", "enabled = 1", "[source.host] enabled is 1; give true or false, such as true"),
    ("source.host", 'groups = ["cpus"]', "[source.host] groups names 'cpus', which is not a group; did you mean 'cpu'"),
    ("source.host.cadence", 'cpu = "2d"', "[source.host.cadence] cpu is '2d'; give a duration from 0 to 1d."),
    ("source.textfile", 'directory = "text"', "[source.textfile] directory is 'text'; give an absolute path, such as"),
    ("source.deployment", "prometheus = 3", "[source.deployment] prometheus is 3; make it a table: [source.deployment"),
    ('source."a.b"', f'class = "{__name__}:Dotted"', "[source.\"a.b\"] is the table of a source, whose name is"),
    ("source.rules", f'class = "{__name__}:Rules"', "[source.rules] has the name of a program of the daemon's own;"),
    ('metric."^node_.*"', "max_series = 5", "[metric.\"^node_.*\"] matches no metric name; use letters, digits and _"),
    ('metric."a["', "max_series = 5", "[metric.\"a[\"] matches no metric name; use letters, digits and _ : . / -, and"),
    ("metric.depth", "max_series = -1", "[metric.depth] max_series is -1; give a number from 0 to 100000."),
]  # fmt: skip
CLASS = [
    ("shm", 'group = "no-such-group"', "[shm] group is 'no-such-group', which is not a group of this host; create it"),
    ("shm", 'owner = "no-such-user"', "[shm] owner is 'no-such-user', which is not a user of this host; name the user"),
    ("shm", 'snapshot_dir = "~/rings"', "[shm] snapshot_dir is '~/rings', but ~ is not expanded in a configuration"),
    ("exporter", 'listen = "no such host"', "[exporter] listen is 'no such host': "),
    ("source.betanet", 'url = "localhost:9000"', "[source.betanet] url is 'localhost:9000'; "),
    ("source.deployment", 'providers = ["k8s", "haproxy"]', "[source.deployment] providers has 'k8s', which is"),
    ("source.deployment", "", "[source.deployment] providers lists haproxy, but haproxy_url is empty; set it to"),
    (
        "source.queue", f'class = "{__name__}:Queue"\ndepth = 11',
        f"[source.queue] class '{__name__}:Queue' can't be made from {{'depth': 11}}: OSError: depth 11 is too deep",
    ),
    ("source.depth", f'class = "{__name__}:Depth"\nlimt = 5', "[source.depth] has no key 'limt'; did you mean 'limit'"),
    (
        "source.width", f'class = "{__name__}:Width"\ninterval_secs = 5',
        "[source.width] has no key 'interval_secs'; did you mean 'interval_seconds'?",
    ),
    ("source.spool", 'class = "spool"', "[source.spool] class is 'spool'; give \"module:Class\""),
    ("metric.node_cpu_usage", "buckets = [1]", "[metric.node_cpu_usage] buckets are for histograms, and node_cpu"),
    ("metric.collector_up", "max_series = 5", "[metric.collector_up] is the daemon's own metric, which has no limits"),
]  # fmt: skip
Mistake = tuple[str, str, str]


def text_of(mistakes: Iterable[Mistake]) -> str:
    tables: dict[str, str] = {}
    for table, lines, _ in mistakes:
        tables[table] = tables.get(table, f"[{table}]\n" if table else "") + lines + "\n"
    return "".join(tables.values())


def expected(path: Path, message: str) -> str:
    """The start of a line: what is about a table begins with the file and a colon."""
    return f"{path}: {message}" if message.startswith("[") else f"{path} {message}"


@pytest.mark.parametrize("mistake", [*FILE, *(one for one in CLASS if one[1])], ids=lambda one: one[2])
def test_a_mistake_is_one_sentence_with_key_value_and_remedy(
    mistake: Mistake, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.toml"
    path.write_text(text_of([mistake]).replace(', "haproxy"', ""))
    assert check([str(tmp_path), "--config-only", "--config", str(path)]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith(f"fogmetrics: {expected(path, mistake[2])}")


def test_all_mistakes_of_a_file_come_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "f.toml"
    path.write_text(text_of([*FILE, *CLASS]))
    assert check([str(tmp_path), "--config-only", "--config", str(path)]) == 78
    lines = capsys.readouterr().err.splitlines()
    for *_, message in (*FILE, *CLASS):
        assert [one for one in lines if one.startswith(f"fogmetrics: {expected(path, message)}")], message
    assert len(lines) == len(FILE) + len(CLASS)


def test_each_process_refuses_to_start_for_any_mistake_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.toml"
    path.write_text(text_of(FILE))
    for main, arguments in ((collector, ["system"]), (collector, ["system", "--once"]), (exporter, [])):
        assert main([*arguments, "--config", str(path)]) == 78
        assert len(capsys.readouterr().err.splitlines()) == len(FILE)


def test_a_key_that_could_not_be_read_causes_no_second_message(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "f.toml"
    for text, said in (
        ("deployment]\nproviders = ['haproxy']\nhaproxy_ulr = 'http://h/'", "has no key 'haproxy_ulr'"),
        ("deployment]\nproviders = ['haproxy']\nhaproxy_url = 5", "haproxy_url is 5; give a"),
        ("betanet]\nbuckets = ['1']", "buckets is '1'; give a number"),
    ):
        path.write_text(f"[source.{text}\n")
        assert check([str(tmp_path), "--config-only", "--config", str(path)]) == 78
        [line] = capsys.readouterr().err.splitlines()
        assert said in line
