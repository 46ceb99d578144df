"""The files in deploy/: each is what the program that reads it takes, and what the documentation says of it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from fogmetrics import config
from fogmetrics.cli.init import FILES, Service, next_steps, rendered
from fogmetrics.cli.init import main as init
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
    [block] = blocks(read("docs/install.md"), "yaml")
    assert block.text in read("deploy/prometheus.yml")


@pytest.mark.parametrize(("kind", "name"), [("system", "fogmetrics.service"), ("docker", "Dockerfile")])
def test_the_unit_and_the_dockerfile_are_those_that_init_writes(kind: str, name: str) -> None:
    values = Service().values(Path("/etc/fogmetrics"), "/opt/fogmetrics/bin/fogmetrics")
    assert read(f"deploy/{name}") == rendered(kind, {**values, "betanet": ""})[name]


def test_the_steps_that_init_prints_are_those_of_the_documentation() -> None:
    _, *steps = next_steps(Path("/etc/fogmetrics"), "system", Service()).splitlines()
    for step in steps:
        assert f"# {step.strip()}\n".replace(sys.prefix, "/opt/fogmetrics") in read("docs/install.md")


@pytest.mark.real
def test_the_unit_leaves_the_service_little_that_it_does_not_need() -> None:
    checked = subprocess.run(
        [find_program("systemd-analyze"), "security", "--offline=true", "--no-pager", "--threshold=40",
         DEPLOY / "fogmetrics.service"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.real
def test_systemd_takes_the_unit_as_it_is(tmp_path: Path) -> None:
    assert init([str(tmp_path), "--system"]) == 0
    unit = tmp_path / "fogmetrics.service"
    checked = subprocess.run(
        [find_program("systemd-analyze"), "verify", "--man=no", unit], capture_output=True, text=True, timeout=60
    )
    assert checked.returncode == 0, checked.stderr
    assert unit.name not in checked.stderr


def test_the_image_needs_nothing_but_the_wheel_and_what_init_writes_beside_it() -> None:
    sources = re.findall(r"^COPY (.+) \S+$", read("deploy/Dockerfile"), re.MULTILINE)
    assert set(" ".join(sources).split()) - {"fogmetrics-*.whl", "conf.d"} <= set(FILES["docker"])


def test_the_sizes_in_the_documentation_are_those_of_the_layout() -> None:
    for row in table(read("docs/deployment.md"), "columns", "capacity", "bytes"):
        width, capacity = int(row["columns"]), int(row["capacity"])
        catalog = aligned(max(4096, 160 * width), 64)
        header = Header("s", capacity, width, 1, 1, catalog, 1, bytes(16))
        assert header.segment_bytes == int(row["bytes"])


@pytest.mark.parametrize("name", ["docs/deployment.md", "docs/install.md", "docs/configuration.md"])
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
