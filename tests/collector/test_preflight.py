from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from collector.preflight import check_port, check_run_directory, where_to_look
from collector.preflight import main as preflight
from shm.config import Config, parse
from shm.errors import FogmetricsError
from tests.daemon import ROOT


def config(text: str) -> Config:
    return parse(text, Path("fogmetrics.toml"))


def test_preflight_says_where_to_look(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = tmp_path / "fogmetrics.toml"
    toml.write_text("[exporter]\nport = 0\n")
    assert preflight([str(tmp_path), "--config", str(toml)]) == 0
    said = capsys.readouterr().out
    assert "/metrics/aggregated" in said
    assert str(tmp_path / "run" / "log") in said
    assert "http://localhost:9333/metrics " in where_to_look(config("[exporter]\nport = 9333\n"), tmp_path)


def test_preflight_refuses_what_any_of_the_processes_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = tmp_path / "fogmetrics.toml"
    for text, said in (
        ('[shm]\nnamespace = "a.b"\n', "namespace is 'a.b'"),
        ('[shm]\ngroup = "no-such-group"\n', "[shm] group is 'no-such-group'"),
        ('[shm]\nowner = "no-such-user"\n', "[shm] owner is 'no-such-user'"),
        ('[source.deployment]\nproviders = ["k8s"]\n', "providers"),
        ('[source.queue]\nclass = "nothing:Here"\n', "class 'nothing:Here'"),
        ('[exporter]\nlisten = "no such host"\n', "listen is 'no such host'"),
    ):
        toml.write_text(text)
        assert preflight([str(tmp_path), "--config", str(toml)]) == 78
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert said in err


def test_the_configuration_alone_can_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = tmp_path / "fogmetrics.toml"
    toml.write_text("[exporter]\nport = 9300\n")
    assert preflight([str(tmp_path), "--config-only", "--config", str(toml)]) == 0
    assert capsys.readouterr() == ("", "")
    assert not (tmp_path / "run").exists()
    toml.write_text("[exporter]\nport = -1\n")
    assert preflight([str(tmp_path), "--config-only", "--config", str(toml)]) == 78


def test_an_unwritable_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the directory should be")
    with pytest.raises(FogmetricsError, match=r"run.* can't be made"):
        check_run_directory(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become a user without rights: run the tests as root")
def test_a_directory_that_this_user_may_not_write_to_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    code = (
        "import os, sys; os.setuid(65534); from pathlib import Path\n"
        "from collector.preflight import check_run_directory\n"
        "try: check_run_directory(Path(sys.argv[1]))\nexcept Exception as error: print(type(error).__name__, error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", f"import collector.preflight\n{code}", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert run.stdout.startswith("InTheWay "), run.stderr
    assert str(tmp_path / "run") in run.stdout
    assert "Permission denied" in run.stdout


def test_a_directory_whose_name_is_too_long_for_a_socket_is_named(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    with pytest.raises(FogmetricsError, match="clone to a directory with a shorter name"):
        check_run_directory(deep)


def test_a_free_port_is_no_trouble() -> None:
    check_port(config("[exporter]\nport = 0\n"))
