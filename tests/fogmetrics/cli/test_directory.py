"""Commands act on the daemon of the directory that they are given, whatever the working directory is."""

from __future__ import annotations

from pathlib import Path

import pytest

from collector.frame.collector import MetricCollector
from fogmetrics.cli import directory
from fogmetrics.cli.directory import supervisor_socket
from fogmetrics.cli.main import main
from fogmetrics.config import Config
from shm.ring import disk_copy
from tests.rings import files_of


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a configuration of its own: another daemon's."""
    monkeypatch.delenv("FOGMETRICS_CONFIG", raising=False)
    path = tmp_path / "elsewhere"
    path.mkdir()
    (path / "fogmetrics.toml").write_text('[shm]\nnamespace = "elsewhere"\n[source.system]\nproc = "/nowhere"\n')
    monkeypatch.chdir(path)
    return path


def test_clean_removes_what_the_configuration_of_the_directory_names_snapshots_too(
    toml: Path, tmp_path: Path, namespace: str
) -> None:
    toml.write_text(f'{toml.read_text()}snapshot_dir = "snapshots"\n')  # below that directory
    with MetricCollector("node", namespace=namespace, capacity=8) as collector:
        collector.commit()
        disk_copy.take(tmp_path / "snapshots", namespace, "node")
    assert main(["clean", str(tmp_path)]) == 0
    assert files_of(namespace) == []
    assert list((tmp_path / "snapshots").iterdir()) == []


def test_once_reads_the_configuration_of_the_directory(
    toml: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["once", "system"]) == 1
    assert "/nowhere" in capsys.readouterr().err
    assert main(["once", "system", str(tmp_path)]) == 0
    assert "system_uptime" in capsys.readouterr().out


def test_a_directory_without_a_configuration_has_the_defaults_not_those_of_the_working_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "supervisord.conf").touch()
    assert directory.load(bare, None) == Config()
    assert main(["check", str(bare), "--config-only"]) == 0
    assert "there is no fogmetrics.toml, so every key has its default" in capsys.readouterr().out
    assert main(["once", "system", str(bare)]) == 0
    assert "system_uptime" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["check"], ["clean"], ["once", "system"], ["reload"], ["run"], ["status"]])
@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file or directory"), ("file", "Not a directory")])
def test_a_directory_that_is_none_is_refused_and_not_made(
    command: list[str], name: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main([*command, str(tmp_path / name)]) == 78
    assert capsys.readouterr().err == (
        f"fogmetrics: {tmp_path / name} can't be a daemon's directory: {reason}; name the directory that has its "
        "supervisord.conf\n"
    )
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("command", ["clean", "run"])
def test_a_directory_that_is_no_daemons_is_refused(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert main([command, str(empty)]) == 78
    assert f"{empty} is not the directory of a daemon" in capsys.readouterr().err
    assert list(empty.iterdir()) == []


def test_a_socket_is_where_the_supervisord_conf_of_the_directory_says(tmp_path: Path) -> None:
    assert supervisor_socket(tmp_path) == tmp_path / "run" / "supervisor.sock"
    (tmp_path / "supervisord.conf").write_text("[unix_http_server]\nfile = %(here)s/s.sock ; here\n")
    assert supervisor_socket(tmp_path) == tmp_path / "s.sock"
