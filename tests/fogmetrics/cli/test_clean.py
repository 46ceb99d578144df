from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from collector.frame.collector import MetricCollector
from fogmetrics import config as configuration
from fogmetrics.cli import directory
from fogmetrics.cli.clean import main as clean
from shm.files import DIRECTORY, lock_path, ring_path
from shm.ring import disk_copy
from shm.table.format import table_path
from tests.rings import become, files_of, in_fork, remove_files_of


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


def test_it_fails_where_there_is_nothing_to_remove_and_names_the_namespaces_that_have_files(
    toml: Path, tmp_path: Path, namespace: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    MetricCollector("node", namespace=namespace, capacity=8).close()
    monkeypatch.setenv("FOGMETRICS_NAMESPACE", f"{namespace}-mistyped")
    assert clean([str(tmp_path), "--config", str(toml)]) == 1
    said = capsys.readouterr().err
    assert f"nothing to remove: no files of namespace '{namespace}-mistyped' (configuration: {toml})" in said
    assert namespace in said.rpartition("namespaces with files: ")[2].strip().split(", ")
    assert files_of(namespace) != []


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
    assert f"supervisorctl -c {tmp_path}/supervisord.conf shutdown" in capsys.readouterr().err
    assert [path for path in files_of(namespace) if path.suffix == ".ring"]


def test_a_namespace_whose_name_only_begins_alike_is_left_and_the_longest_name_is_cleaned(
    toml: Path, tmp_path: Path, namespace: str
) -> None:
    name = namespace.ljust(64, "x")
    toml.write_text(f'[shm]\nnamespace = "{name}"\n')
    MetricCollector("node", namespace=name, capacity=8).close()
    MetricCollector("node", namespace=namespace, capacity=8).close()
    MetricCollector("node", namespace=f"{namespace}-demo", capacity=8).close()
    others = files_of(f"{namespace}-demo")
    assert clean([str(tmp_path), "--config", str(toml)]) == 0
    assert files_of(name) == []
    toml.write_text(f'[shm]\nnamespace = "{namespace}"\n')
    assert clean([str(tmp_path), "--config", str(toml)]) == 0
    assert files_of(namespace) == []
    assert files_of(f"{namespace}-demo") == others
    remove_files_of(f"{namespace}-demo")


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: run the tests as root")
def test_files_of_other_users_are_left_and_hinder_nothing(
    toml: Path,
    tmp_path: Path,
    namespace: str,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for path in (lock_path(namespace, "node"), table_path(namespace, "web", "1-0000000000000001")):
        path.touch()
    left = files_of(namespace)
    config = configuration.load(str(toml))  # the other user may not enter the directory
    monkeypatch.setattr(directory, "load", lambda *_: config)
    monkeypatch.setattr(directory, "check_is_one", lambda *_: None)

    def as_another_user() -> None:
        become(4242, 4242)
        MetricCollector("system", namespace=namespace, capacity=8).close()
        assert len(files_of(namespace)) == 4
        assert clean([str(tmp_path), "--config", str(toml)]) == 0

    in_fork(as_another_user)
    assert files_of(namespace) == left
    assert f"2 files of this namespace in {DIRECTORY} are left, since they belong to other users" in (
        capfd.readouterr().err
    )


def test_files_that_are_no_writers_hinder_nothing(
    toml: Path, tmp_path: Path, namespace: str, capsys: pytest.CaptureFixture[str]
) -> None:
    MetricCollector("node", namespace=namespace, capacity=8).close()
    start = f"fogmetrics.{namespace}."
    no_names = [DIRECTORY / f"{start}{one}" for one in (".ring", "a b.ring", "*.lock", f"{'x' * 65}.ring")]
    directories = [DIRECTORY / f"{start}{one}" for one in ("dir.ring", "dir2.lock")]
    for path in no_names:
        path.touch()
    for path in directories:
        path.mkdir()
    os.mkfifo(lock_path(namespace, "pipe"))
    lock_path(namespace, "link").symlink_to("/nowhere")
    ring_path(namespace, "node2").symlink_to("/nowhere")
    try:
        assert clean([str(tmp_path), "--config", str(toml)]) == 0
        assert files_of(namespace) == sorted([*no_names, *directories])
        assert "2 files of this namespace" in capsys.readouterr().err
    finally:
        for path in directories:
            path.rmdir()
