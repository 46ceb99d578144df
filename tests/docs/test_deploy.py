"""The files in deploy/: each is what the program that reads it takes, and what the documentation says of it."""

from __future__ import annotations

import re
import subprocess
import tomllib
from typing import Any

import pytest
import yaml

from fogmetrics import config
from shm.ring.layout import Header, aligned
from tests.docs.markdown import ROOT, blocks, read, table
from tests.programs import find_program

DEPLOY = ROOT / "deploy"


@pytest.mark.real
@pytest.mark.parametrize(
    "command",
    ["check config prometheus.yml", "check rules alerts.yml", "test rules alerts.test.yml"],
)
def test_promtool_accepts_what_prometheus_reads(command: str) -> None:
    checked = subprocess.run(
        [find_program("promtool"), *command.split()], cwd=DEPLOY, capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr


def alerts() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(read("deploy/alerts.yml"))["groups"] for rule in group["rules"]]


def test_each_alert_is_about_one_job_and_is_in_the_documentation() -> None:
    jobs = {job["job_name"] for job in yaml.safe_load(read("deploy/prometheus.yml"))["scrape_configs"]}
    for rule in alerts():
        named = re.findall(r'job="([^"]+)"', rule["expr"])
        assert len(named) == rule["expr"].count("{") > 0, rule["expr"]
        assert {*named} <= jobs
    rows = table(read("docs/deployment.md"), "alert", "expression", "what it means")
    assert [(row["alert"], row["expression"]) for row in rows] == [(rule["alert"], rule["expr"]) for rule in alerts()]


def test_promtool_tests_each_alert_silent_and_firing() -> None:
    silent, passing, firing = yaml.safe_load(read("deploy/alerts.test.yml"))["tests"]
    names = [rule["alert"] for rule in alerts()]
    for one in (silent, passing, firing):
        assert [case["alertname"] for case in one["alert_rule_test"]] == names
        assert all(bool(case.get("exp_alerts")) is (one is firing) for case in one["alert_rule_test"])


def test_the_jobs_in_the_documentation_are_those_of_the_file() -> None:
    [block] = blocks(read("docs/deployment.md"), "yaml")
    assert block.text in read("deploy/prometheus.yml")


def test_the_unit_runs_the_installed_command() -> None:
    unit = read("deploy/fogmetrics.service")
    assert "ExecStart=/opt/fogmetrics/bin/fogmetrics run /etc/fogmetrics\n" in unit
    assert "RuntimeDirectory=fogmetrics" in unit
    assert "LogsDirectory=fogmetrics" in unit


def test_the_image_copies_only_what_is_there() -> None:
    for line in re.findall(r"^COPY (.+) \S+$", read("deploy/Dockerfile"), re.MULTILINE):
        for name in line.split():
            assert (ROOT / name).exists(), name


def test_the_sizes_in_the_documentation_are_those_of_the_layout() -> None:
    for row in table(read("docs/deployment.md"), "columns", "capacity", "bytes"):
        width, capacity = int(row["columns"]), int(row["capacity"])
        catalog = aligned(max(4096, 160 * width), 64)
        header = Header("s", capacity, width, 1, 1, catalog, 1, bytes(16))
        assert header.segment_bytes == int(row["bytes"])


@pytest.mark.parametrize("name", ["docs/deployment.md", "docs/configuration.md"])
def test_every_toml_example_is_a_configuration(name: str) -> None:
    for block in blocks(read(name), "toml"):
        if "project" in tomllib.loads(block.text):
            continue  # that is of a package's pyproject.toml
        config.parse(block.text, ROOT / "fogmetrics.toml")


def test_the_unit_hides_no_file_system_whose_size_is_reported() -> None:
    unit = read("deploy/fogmetrics.service")
    assert re.findall("^(ProtectHome|TemporaryFileSystem|InaccessiblePaths)=(.*)", unit, re.MULTILINE) == [
        ("ProtectHome", "read-only")
    ]


def test_systemd_reloads_by_the_command_in_the_directory_that_the_unit_runs() -> None:
    unit = read("deploy/fogmetrics.service")
    [start], [reload] = (re.findall(rf"^Exec{what}=(.*)", unit, re.MULTILINE) for what in ("Start", "Reload"))
    assert reload == start.replace(" run ", " reload ")
