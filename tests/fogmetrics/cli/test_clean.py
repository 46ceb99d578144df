from __future__ import annotations

import socket
from pathlib import Path

import pytest

from collector.frame.collector import MetricCollector
from fogmetrics.cli.clean import main as clean
from shm.files import DIRECTORY
from shm.ring import disk_copy
from tests.rings import files_of, remove_files_of


def test_nothing_of_the_namespace_is_left_not_even_of_a_source_without_a_ring(
    toml: Path, tmp_path: Path, namespace: str
) -> None:
    snapshots = tmp_path / "snapshots"
    toml.write_text(f'{toml.read_text()}snapshot_dir = "{snapshots}"\n')
    with MetricCollector("node", namespace=namespace, capacity=8) as collector:
        collector.commit()
        disk_copy.take(snapshots, namespace, "node")
    for left in ("gone.corrupt", "old.layout-2", "dead.new", "quiet.lock"):
        (DIRECTORY / f"fogmetrics.{namespace}.{left}").touch()
    for name in (f"fogmetrics.{namespace}.former.snapshot.before", "of somebody else"):
        (snapshots / name).touch()
    assert clean([str(tmp_path), "--config", str(toml)]) == 0
    assert files_of(namespace) == []
    assert [path.name for path in snapshots.iterdir()] == ["of somebody else"]


def test_a_ring_with_a_writer_is_left(
    toml: Path, tmp_path: Path, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with MetricCollector("node", namespace=namespace, capacity=8) as collector:
        assert clean([str(tmp_path), "--config", str(toml)]) == 75
        assert "already writes to it" in capsys.readouterr().err
        assert collector.writer.path.exists()


def test_nothing_is_removed_while_a_daemon_runs_from_the_directory(
    toml: Path, tmp_path: Path, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    MetricCollector("node", namespace=namespace, capacity=8).close()
    (tmp_path / "run").mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "run" / "supervisor.sock"))
        listener.listen()
        assert clean([str(tmp_path), "--config", str(toml)]) == 75
    assert "stop it first" in capsys.readouterr().err
    assert [path for path in files_of(namespace) if path.suffix == ".ring"]


def test_a_namespace_whose_name_only_begins_alike_is_left_and_the_longest_name_is_cleaned(
    toml: Path, tmp_path: Path, namespace: str
) -> None:
    name = namespace.ljust(64, "x")
    toml.write_text(f'[shm]\nnamespace = "{name}"\n')
    MetricCollector("node", namespace=name, capacity=8).close()
    MetricCollector("node", namespace=namespace, capacity=8).close()
    MetricCollector("node", namespace=f"{namespace}-demo", capacity=8).close()
    assert clean([str(tmp_path), "--config", str(toml)]) == 0
    assert files_of(name) == []
    toml.write_text(f'[shm]\nnamespace = "{namespace}"\n')
    assert clean([str(tmp_path), "--config", str(toml)]) == 0
    assert files_of(namespace) == []
    assert files_of(f"{namespace}-demo") != []
    remove_files_of(f"{namespace}-demo")
