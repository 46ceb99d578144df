from __future__ import annotations

import configparser
import dataclasses
import os
import stat
from pathlib import Path

import pytest

from fogmetrics import config
from fogmetrics.cli import check, programs
from fogmetrics.cli.directory import read_conf, run_directory
from fogmetrics.cli.init import main as init
from fogmetrics.settings.tables import ShmConfig

BOTH = pytest.mark.parametrize("options", [[], ["--system"]], ids=["plain", "system"])


@BOTH
def test_its_files_are_a_configuration_and_a_supervisord_conf_with_a_program_for_each_source_that_is_on(
    options: list[str], tmp_path: Path
) -> None:
    directory = tmp_path / "new" / "directory"
    assert init([str(directory), *options]) == 0
    loaded = config.load(directory / "fogmetrics.toml", {})
    loaded = dataclasses.replace(loaded, shm=ShmConfig())  # this host may not have the users
    text = programs.programs(directory, read_conf(directory), loaded)
    made = configparser.RawConfigParser()
    made.read_string(text)
    assert made.sections() == [f"program:{name}" for name in ("node", "deployment", "betanet", "system", "exporter")]
    included = read_conf(directory)["include"]["files"].split()
    assert directory / included[0] == run_directory(directory) / programs.FILE
    assert (directory / "conf.d").is_dir()


def test_those_of_a_system_have_a_user_for_the_collectors_and_one_for_the_exporter(tmp_path: Path) -> None:
    assert init([str(tmp_path), "--system"]) == 0
    conf, loaded = read_conf(tmp_path), config.load(tmp_path / "fogmetrics.toml", {})
    assert conf["fogmetrics:collector"]["user"] == loaded.shm.owner == loaded.shm.group == "fogmetrics"
    assert conf["fogmetrics:exporter"]["user"] == "fogmetrics-exporter"
    assert loaded.exporter.listen == "127.0.0.1"


def test_those_of_a_system_are_readable_by_the_users_of_the_programs_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert init([str(tmp_path / "new"), "--system"]) == 0
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new", *(tmp_path / "new").iterdir())}
    assert (modes["new"], modes["fogmetrics.toml"], modes["supervisord.conf"]) == (0o755, 0o644, 0o644)


def test_the_plain_files_pass_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOGMETRICS_CONFIG", raising=False)
    assert init([str(tmp_path)]) == 0
    assert check.main([str(tmp_path), "--config-only"]) == 0


@pytest.mark.parametrize("name", ["fogmetrics.toml", "supervisord.conf"])
def test_a_file_that_is_there_is_left_and_named(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text("mine")
    assert init([str(tmp_path)]) == 75
    assert f"has {name} already" in capsys.readouterr().err
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "mine")]
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("nowhere")
    assert init([str(tmp_path)]) == 75
    assert f"has {name} already" in capsys.readouterr().err


@BOTH
def test_the_options_of_the_programs_are_the_same_but_for_users_and_directories(
    options: list[str], tmp_path: Path
) -> None:
    assert init([str(tmp_path), *options]) == 0
    conf = read_conf(tmp_path)
    collector, exporter = dict(conf["fogmetrics:collector"]), dict(conf["fogmetrics:exporter"])
    assert collector.pop("user", "") == exporter.pop("user", "").removesuffix("-exporter")
    assert collector == exporter
    assert int(collector["startsecs"]) > 0
    assert "exitcodes" not in collector
