"""docs/host.md: the families that the source host has, and of the real node_exporter's those that it has not."""

from __future__ import annotations

import fnmatch
import re
import subprocess
from pathlib import Path

import pytest

from collector.sources.host.options import GROUPS, HostOptions
from collector.sources.host.source import HostMetricSource
from tests.collector.sources.host.node_exporter import node_exporter, of_page, page_of
from tests.docs import expected
from tests.docs.markdown import read, table
from tests.programs import find_program


def names(cell: str) -> list[str]:
    return re.findall(r"[a-z_0-9*]+", cell.replace("other than those above", ""))


def test_each_family_is_in_the_table_with_its_type_and_labels() -> None:
    page = read("docs/host.md")
    assert expected.host_table() in page, "paste from: python -m tests.docs.expected"
    assert expected.host_memory() in page


def test_each_group_has_its_cost() -> None:
    rows = table(read("docs/host.md"), "group", "series", "median", "CPU, mean", "slowest")
    assert [row["group"] for row in rows] == [*GROUPS, "all, with their timing"]


def test_limits_in_prose_are_those_of_the_source() -> None:
    source = HostMetricSource
    for page in ("docs/host.md", "docs/configuration.md"):
        text = " ".join(read(page).split())
        assert f"may have {source.default_max_series} series" in text, page
        assert f"{source.default_max_series_per_metric} of one metric" in text, page


@pytest.mark.real
def test_each_family_of_the_real_node_exporter_is_offered_or_has_a_reason(tmp_path: Path) -> None:
    rows = table(read("docs/host.md"), "family", "group", "why not")
    assert all(row["why not"] for row in rows)
    assert {row["group"] for row in rows} <= {*GROUPS, ""}
    reasons = [name for row in rows for name in names(row["family"])]
    offered = {metric.name for metric in HostMetricSource().metrics}
    assert not [one for one in reasons if "*" not in one and one in offered]
    with node_exporter(HostOptions(), tmp_path) as url:
        theirs = of_page(page_of(url))
    for family, one in theirs.items():
        name = f"{family}_total" if one.type == "counter" else family
        if name.startswith("node_") and name not in offered:
            assert any(fnmatch.fnmatch(name, reason) for reason in reasons), f"docs/host.md has no word on {name}"


@pytest.mark.real
def test_each_collector_that_they_have_on_by_default_is_a_group_or_has_a_reason() -> None:
    rows = table(read("docs/host.md"), "collectors", "why not")
    reasons = [name for row in rows for name in names(row["collectors"])]
    assert all(row["why not"] for row in rows)
    assert len(set(reasons)) == len(reasons)
    shown = subprocess.run(
        [find_program("prometheus-node-exporter"), "--help"], capture_output=True, text=True, timeout=60
    )
    text = " ".join((shown.stdout + shown.stderr).split())
    on = set(re.findall(r"Enable the (\w+) collector \(default: enabled\)", text))
    assert len(on) > 30
    assert on == {*GROUPS, *reasons}
