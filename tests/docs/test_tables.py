"""The tables of the documentation are those that the code gives."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from collector import metrics, registry
from exporter import coverage
from exporter.limits import MAX_ADVANCE, MAX_PIPELINED
from exporter.negotiation import Format
from exporter.places import BACKLOG, OTHER_FILES
from exporter.query import ALL_STATS, MetricsQuery
from exporter.server import Exporter
from shm.catalog import DEFAULT_BUCKETS_MS
from shm.config import Config, ShmConfig, parse
from tests.docs import expected
from tests.docs.markdown import read, table
from tests.rings import append_proof, open_writer
from tests.rings import namespace as namespace


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
        append_proof(one)
        append_proof(two)
        found = Exporter(dataclasses.replace(Config(), shm=ShmConfig(namespace=namespace)))
        found.own.observe("metrics", 200, 0.001)
        yield found
        found.close()


def test_metrics_has_every_metric_of_the_exporter_itself(exporter: Exporter) -> None:
    # The same series in two rings, so that conflicts are there too; twice, since they are noted by the first page.
    exporter.metrics_text(MetricsQuery(), Format.TEXT)
    exporter.rings.fail("one", ValueError("for the counter of errors"))
    page = exporter.own.render(Format.TEXT, ("exporter_ring_errors_total",)).decode()
    page += exporter.own.render(Format.TEXT).decode()
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
    assert [row["parameter"] for row in rows] == ["window", "metric", "stat", "match[]", "by", "source[]"]
    for stat in ALL_STATS:
        assert f"`{stat}`" in page


def test_http_api_has_every_limit_of_a_client_at_its_default() -> None:
    page, config = read("docs/http-api.md"), Config().exporter
    rows = table(page, "limit", "key", "default", "past it")
    limits = {row["key"].strip("`"): row["default"] for row in rows}
    names = [one.name for one in dataclasses.fields(config)]
    assert set(limits) == {*names[names.index("max_connections") :], ""}
    for name, default in limits.items():
        if name:
            assert default.split(" ")[0] == f"{getattr(config, name):g}", name
    assert limits[""].replace("`", "") == f"{MAX_PIPELINED}, of {MAX_ADVANCE} × max_request_bytes together"
    needed = config.max_connections + BACKLOG + OTHER_FILES
    assert f"{BACKLOG} for connections that come together" in page
    assert f"{OTHER_FILES} for the rings and itself: {needed} with the defaults" in page


# ---- fogmetrics.toml ---------------------------------------------------------------------------------------


def uncommented(text: str) -> str:
    """The file with every key in force, and without the example of a user's own source at its end."""
    text = text.split("# [source.queue]")[0]
    return re.sub(r"^# (?=[a-z_]+ = )", "", text, flags=re.MULTILINE)


def test_the_configuration_file_as_it_is_sets_nothing() -> None:
    config = parse(read("fogmetrics.toml"), Path("fogmetrics.toml"))
    assert (config.shm, config.collector, config.exporter, config.log) == (
        Config().shm, Config().collector, Config().exporter, Config().log,
    )  # fmt: skip
    assert not any(config.source_options.values())


def test_the_configuration_file_has_every_key_at_its_default() -> None:
    text = uncommented(read("fogmetrics.toml"))
    config = parse(text, Path("fogmetrics.toml"))
    for name in ("shm", "collector", "exporter", "log"):
        assert getattr(config, name) == getattr(Config(), name), name
        written = re.split(rf"^\[{name}\]$", text, flags=re.MULTILINE)[1].split("\n[")[0]
        keys = re.findall(r"^([a-z_]+) = ", written, re.MULTILINE)
        assert keys == [one.name for one in dataclasses.fields(getattr(config, name))], name
    for name in registry.BUILT_IN:
        source = registry.build(name, config)
        options = source.options  # type: ignore[attr-defined]  # every built-in source keeps its own
        assert options == type(options)(), name
        assert set(config.source_options[name]) == {one.name for one in dataclasses.fields(options)}, name


def test_the_source_of_ones_own_in_the_documentation_collects(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    page = read("docs/configuration.md")
    [code] = [one for one in re.findall(r"```python\n(.*?)```", page, re.S) if "class QueueSource" in one]
    (tmp_path / "fog_docs_queue.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    [example] = [one for one in re.findall(r"```toml\n(.*?)```", page, re.S) if "[source.queue]" in one]
    example = example.replace("mypackage.queue", "fog_docs_queue").replace("/var/spool/mail", str(tmp_path))
    source = registry.build("queue", parse(example, Path("example.toml")))
    [sample] = source.collect()  # type: ignore[misc]  # a plain list in the example
    assert (sample.metric, sample.labels) == ("queue_depth", {"queue": "mail"})
    assert sample.value is not None
    assert sample.value >= 1


def test_the_changes_name_the_release_of_the_package() -> None:
    [version] = re.findall(r'^version = "(.+)"$', read("pyproject.toml"), re.MULTILINE)
    assert version in read("CHANGELOG.md")


def test_numbers_in_prose_are_the_defaults() -> None:
    config = Config()
    assert f"A source has {config.collector.max_series} series" in read("docs/configuration.md")
    assert f"and a metric {config.collector.max_series_per_metric} unless" in read("docs/configuration.md")
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
