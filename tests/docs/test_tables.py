"""The tables of the documentation are those that the code gives."""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collector import metrics, registry
from collector.frame.rules import Rules
from collector.loop.selfmetrics import MOST_NAMED
from collector.loop.source_thread import MOST_SAMPLES, SourceThread
from collector.settings import BEYOND, MetricConfig
from collector.source import Collection, MetricSource
from exporter import selfmetrics
from exporter.app import Exporter
from exporter.http.negotiation import Format
from exporter.http.parameters import AGGREGATED, ALL_STATS, MetricsQuery
from exporter.http.server import BACKLOG, OTHER_FILES
from exporter.window import coverage
from fogmetrics.cli.main import COMMANDS
from fogmetrics.config import Config, parse
from fogmetrics.settings.reader import keys_of
from fogmetrics.settings.tables import ShmConfig
from shm import VERSION
from shm.metric import DEFAULT_BUCKETS_MS, Metric
from shm.table.process import ProcessTable
from tests.docs import expected
from tests.docs.markdown import ROOT, blocks, read, table
from tests.exporter.scene import own_page
from tests.rings import namespace as namespace
from tests.rings import open_writer


@pytest.mark.parametrize("title", expected.configuration())
def test_configuration_has_every_key_of_each_table(title: str) -> None:
    page = read("docs/configuration.md")
    heading = f"## {title}"
    assert heading in page
    section = page.split(heading + "\n")[1].split("\n## ")[0]
    assert expected.configuration()[title] in section, f"paste from: python -m tests.docs.expected\n{section}"


def test_metrics_has_the_fifteen_and_the_collectors_own() -> None:
    page = read("docs/metrics.md")
    assert expected.metric_table(metrics.ALL) in page
    assert expected.metric_table(metrics.TEXTFILE) in page
    assert expected.metric_table((*metrics.OWN, *metrics.OPTIONAL)) in page
    assert ", ".join(f"{bound:g}" for bound in DEFAULT_BUCKETS_MS) in page


def test_metrics_says_of_each_metric_where_it_is_from_and_when_it_is_absent() -> None:
    rows = table(read("docs/metrics.md"), "metric", "from", "absent")
    assert [row["metric"] for row in rows] == [one.name for one in metrics.ALL]
    assert all(row["from"] and row["absent"] for row in rows)


def test_the_readme_has_the_fifteen_metrics() -> None:
    assert len(metrics.ALL) == 15
    assert expected.readme_table() in read("README.md")


@pytest.fixture
def exporter(namespace: str) -> Iterator[Exporter]:
    with open_writer(namespace, "one", columns=2) as one, open_writer(namespace, "two", columns=2) as two:
        for ring in (one, two):
            ring.append([1.0, 2.0], time.time_ns(), time.monotonic_ns())
        ProcessTable(namespace, "web")
        found = Exporter(dataclasses.replace(Config(), shm=ShmConfig(namespace=namespace)))
        found.own.observe("metrics", 200, 0.001)
        yield found
        found.close()


def test_metrics_has_every_metric_of_the_exporter_itself(exporter: Exporter, monkeypatch: pytest.MonkeyPatch) -> None:
    # The same series in two rings, so that conflicts are there too; the first page notes them.
    exporter.metrics_parts(MetricsQuery(), Format.TEXT)
    exporter.rings.fail("one", ValueError("for the counter of errors"))
    monkeypatch.setattr(selfmetrics, "REFRESH_NS", 0)
    page = own_page(exporter.own)
    families = {one.name: one for one in text_string_to_metric_families(page)}
    text = read("docs/metrics.md")
    rows = {row["metric"].removesuffix("_total"): row for row in table(text, "metric", "type", "labels", "meaning")}
    own = {name: one for name, one in families.items() if name.startswith("exporter_")}
    assert set(rows) == set(own)
    for name, one in own.items():
        assert rows[name]["type"] == one.type, name
        assert rows[name]["meaning"] == one.documentation, name
        labels = {label for sample in one.samples for label in sample.labels}
        if labels:
            assert set(re.findall(r"\w+", rows[name]["labels"])) == labels, name
    for one in families.values():
        if one.name.startswith("process_"):
            assert f"`{one.samples[0].name}`" in text


def test_http_api_has_every_gauge_of_what_a_window_covers() -> None:
    rows = table(read("docs/http-api.md"), "gauge", "labels", "meaning")
    assert [(row["gauge"], row["labels"], row["meaning"]) for row in rows] == [
        (coverage.ASKED.name, "", coverage.ASKED.help),
        *((one.name, "source", one.help) for one in coverage.OF_A_SOURCE),
    ]


def test_http_api_has_every_parameter_and_statistic() -> None:
    page = read("docs/http-api.md")
    rows = table(page, "parameter", "meaning", "default")
    parameters = [one for row in rows for one in row["parameter"].replace("`", "").split(", ")]
    assert (*parameters, "metric", "source") == AGGREGATED
    for stat in ALL_STATS:
        assert f"`{stat}`" in page


def test_http_api_has_every_limit_of_a_client_at_its_default() -> None:
    page, config = read("docs/http-api.md"), Config().exporter
    rows = table(page, "limit", "key", "default", "past it")
    limits = {row["key"].strip("`"): row["default"] for row in rows}
    names = [one.name for one in dataclasses.fields(config)]
    assert set(limits) == {*names[names.index("max_connections") :]}
    for name, default in limits.items():
        assert default.split(" ")[0] == f"{getattr(config, name):.12g}", name
    needed = 2 * config.max_connections + BACKLOG + OTHER_FILES
    assert f"{BACKLOG} for the listening queue" in page
    assert f"{OTHER_FILES} for the rings and itself: {needed} with the defaults" in page


# ---- fogmetrics.toml ---------------------------------------------------------------------------------------


def uncommented(text: str) -> str:
    """The file with every key in force, and without the example of a user's own source at its end."""
    text = text.split("# [source.queue]")[0]
    return re.sub(r"^# (?=[a-z_]+ = )", "", text, flags=re.MULTILINE)


def test_the_configuration_file_as_it_is_sets_nothing() -> None:
    config = parse(read("fogmetrics.toml"), Path("fogmetrics.toml"))
    assert (config.shm, config.collector, config.exporter, config.applications, config.log) == (
        Config().shm, Config().collector, Config().exporter, Config().applications, Config().log,
    )  # fmt: skip
    assert not any(one.options for one in config.source.values())


def test_the_configuration_file_has_every_key_at_its_default() -> None:
    text = uncommented(read("fogmetrics.toml"))
    config = parse(text, Path("fogmetrics.toml"))
    for name in ("shm", "collector", "exporter", "applications", "log"):
        assert getattr(config, name) == getattr(Config(), name), name
        written = re.split(rf"^\[{name}\]$", text, flags=re.MULTILINE)[1].split("\n[")[0]
        keys = re.findall(r"^([a-z_]+) = ", written, re.MULTILINE)
        assert keys == [one.name for one in dataclasses.fields(getattr(config, name))], name
    for name in registry.BUILT_IN:
        source = registry.build(name, config)
        options = source.options  # type: ignore[attr-defined]  # every built-in source keeps its own
        assert options == type(options)(), name
        assert set(config.source[name].options) == set(keys_of(type(options))), name


def test_the_configuration_file_has_every_key_of_a_metrics_own_table_at_its_default() -> None:
    [table] = re.findall(r'^# \[metric\."app_\*"\]\n(?:# .+\n)+', read("fogmetrics.toml"), re.MULTILINE)
    text = re.sub(r"^# ", "", table, flags=re.MULTILINE)
    assert parse(text, Path("fogmetrics.toml")).metric == {"app_*": MetricConfig()}
    assert re.findall(r"^([a-z_]+) = ", text, re.MULTILINE) == [one.name for one in dataclasses.fields(MetricConfig)]


def test_the_limits_of_the_documentation_are_those_of_the_code() -> None:
    page, config = " ".join(read("docs/cardinality.md").split()), Config().collector
    defaults = [row["default"] for row in table(read("docs/cardinality.md"), "limit", "key", "default")]
    assert defaults == [str(config.max_series), str(config.max_series_per_metric), "none"]
    policies = table(read("docs/cardinality.md"), "beyond", "a series beyond the limit", "what it costs")
    assert tuple(row["beyond"].strip('`"') for row in policies) == BEYOND
    assert f"They name {MOST_NAMED} metrics of a source" in page
    [limits] = blocks(read("docs/cardinality.md"), "toml")
    rules = Rules.of(parse(limits.text, Path("example.toml")))
    assert rules.rule(Metric("app_requests", "counter", "")) == MetricConfig(100, "drop", 500)
    assert rules.rule(Metric("job_depth", "gauge", "")) == MetricConfig(0, "oldest", 500)


def example(language: str, text: str) -> str:
    """The block of docs/configuration.md that has this text in it."""
    [found] = [one.text for one in blocks(read("docs/configuration.md"), language) if text in one.text]
    return found


@pytest.fixture
def documented(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., MetricSource]:
    """Builds the source of a name from its class on that page, and from its table: by default the one below it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def build(name: str, cls: str, toml: str = "") -> MetricSource:
        (tmp_path / f"fog_docs_{name}.py").write_text(example("python", f"class {cls}"))
        text = toml or example("toml", f"[source.{name}]")
        text = text.replace(f"mypackage.{name}", f"fog_docs_{name}").replace("/var/spool/mail", str(tmp_path))
        return registry.build(name, parse(text, Path("example.toml")))

    return build


def test_the_source_of_ones_own_in_the_documentation_collects(documented: Callable[..., MetricSource]) -> None:
    [sample] = documented("queue", "QueueSource").collect()  # type: ignore[misc]  # a plain list in the example
    assert (sample.metric, sample.labels) == ("queue_depth", {"queue": "mail"})
    assert sample.value is not None
    assert sample.value >= 1


def test_the_custom_collector_in_the_documentation_collects(documented: Callable[..., MetricSource]) -> None:
    source = documented("spool", "SpoolCollector")
    for collections in (1.0, 2.0):
        found = source.collect()
        assert isinstance(found, Collection)
        assert [(one.metric, one.value) for one in found.samples[:1]] == [("spool_collections_total", collections)]
        assert [(one.metric, dict(one.labels)) for one in found.samples[1:]] == [("spool_files", {"queue": "mail"})]
        assert found.errors == []


def test_the_async_source_in_the_documentation_is_awaited_and_observes(documented: Callable[..., MetricSource]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        text = f'[source.probe]\nclass = "fog_docs_probe:ProbeSource"\nport = {port}\n'
        thread = SourceThread(documented("probe", "ProbeSource", text))
        result = thread.finish(thread.start(30))
    thread.close(30)
    [sample] = result.samples
    assert (sample.metric, sample.labels) == ("probe_seconds", {"port": str(port)})


def test_the_test_of_the_source_of_ones_own_in_the_documentation_passes(tmp_path: Path) -> None:
    test = example("python", "import QueueSource")
    (tmp_path / "mypackage").mkdir()
    (tmp_path / "mypackage" / "queue.py").write_text(example("python", "class QueueSource"))
    for broken, status in ((False, 0), (True, 1)):
        (tmp_path / "test_queue.py").write_text(test.replace('"queue_depth"', '"depth"') if broken else test)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_queue.py"]
        environ = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
        run = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=300)
        assert run.returncode == status, run.stdout


def test_the_readme_has_every_command_and_what_it_does() -> None:
    rows = {
        row["command"].split()[1].strip("`"): row["what it does"]
        for row in table(read("README.md"), "command", "what it does")
    }
    assert rows.keys() == COMMANDS.keys()
    for name, (_, what) in COMMANDS.items():
        assert rows[name].startswith(what), name


def test_the_changes_name_the_release_of_the_package() -> None:
    assert metadata.version("fogmetrics") == VERSION
    assert VERSION in read("CHANGELOG.md")


def test_numbers_in_prose_are_the_defaults() -> None:
    config = Config()
    assert f"A source has {config.collector.max_series} series" in read("docs/configuration.md")
    assert f"and a metric {config.collector.max_series_per_metric} unless" in read("docs/configuration.md")
    assert f"more than {MOST_SAMPLES:,} samples" in read("docs/configuration.md")
    kibibytes = config.shm.capacity * 8 // 1024
    assert f"capacity makes {kibibytes} KiB a column" in read("docs/configuration.md")
    minutes = config.shm.capacity * 0.1 / 60
    assert f"of {config.shm.capacity} is {minutes:g} minutes" in read("docs/configuration.md")
    assert config.exporter.stale_intervals == 3
    for page in ("README.md", "docs/metrics.md", "docs/troubleshooting.md"):
        assert re.search(r"three\s+of\s+its\s+intervals", read(page)), page


@pytest.mark.parametrize("name", ["README.md", "docs/http-api.md"])
def test_the_headers_in_shown_output_are_those_of_the_pages(name: str) -> None:
    known = {one.family: one.help for one in (*metrics.ALL, *metrics.OWN, *metrics.OPTIONAL)}
    known |= {
        row["metric"].removesuffix("_total"): row["meaning"]
        for row in table(read("docs/metrics.md"), "metric", "type", "labels", "meaning")
    }
    known |= {one.name: one.help for one in (coverage.ASKED, *coverage.OF_A_SOURCE)}
    shown = re.findall(r"^# HELP (\w+) (.+)$", read(name), re.MULTILINE)
    assert shown
    for metric, text in shown:
        assert known[metric.removesuffix("_total")] == text.removeprefix("Over a window: "), metric
