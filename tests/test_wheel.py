"""The wheel: what is in it, and what its commands do where nothing else of fogmetrics is."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

import pytest

from fogmetrics.cli.main import COMMANDS
from shm import VERSION
from tests.packages import PRODUCT, ROOT
from tests.programs import free_port
from tests.rings import namespace as namespace
from tests.wheels import Environment, build, write_modules


def add_an_old_build(tree: Path) -> None:
    """What setuptools leaves in a clone: here of a release that had one module more."""
    old = tree / "build" / "lib" / "shm"
    old.mkdir(parents=True)
    (old / "removed.py").touch()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"), add_an_old_build)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """An environment with the libraries of the daemon."""
    environment = Environment(tmp_path_factory.mktemp("daemon"))
    environment.install(wheel)
    return environment


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """An environment without the extra daemon."""
    environment = Environment(tmp_path_factory.mktemp("bare"), "xxhash")
    environment.install(wheel)
    return environment


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A working directory with modules named as ours are."""
    write_modules(tmp_path, "collector", "exporter", "shm")
    return tmp_path


def test_the_wheel_has_every_file_of_the_packages_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    ours = {
        str(path.relative_to(ROOT))
        for name in PRODUCT
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == ours
    assert {"fogmetrics/cli/files/supervisord.conf", "shm/py.typed"} < packed


@pytest.mark.parametrize("program", [["fogmetrics"], ["python", "-m", "fogmetrics"]])
def test_no_command_imports_a_module_of_the_working_directory(
    installed: Environment, work: Path, program: list[str], namespace: str
) -> None:
    def fogmetrics(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = installed.run(*program, *arguments, cwd=work)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done

    assert fogmetrics("--version").stdout == f"fogmetrics {VERSION}\n"
    fogmetrics("init", ".")
    (work / "fogmetrics.toml").write_text(
        f'[shm]\nnamespace = "{namespace}"\n[exporter]\nport = {free_port()}\n[source.betanet]\nenabled = false\n'
    )
    assert "is valid; on: node, deployment, system" in fogmetrics("check").stdout
    assert "node_cpu_usage" in fogmetrics("once", "node").stdout


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("completion", "clean")])
def test_without_the_extra_a_command_says_in_one_sentence_what_to_install(
    bare: Environment, work: Path, name: str
) -> None:
    done = bare.run("fogmetrics", name, "node" if name == "once" else ".", cwd=work)
    assert done.returncode == 78
    assert done.stderr.startswith("fogmetrics: this environment lacks ")
    assert done.stderr.endswith(f"its extra: pip install 'fogmetrics-{VERSION}-py3-none-any.whl[daemon]'\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["completion", "bash"]])
def test_without_the_extra_the_other_commands_work(bare: Environment, work: Path, arguments: list[str]) -> None:
    done = bare.run("fogmetrics", *arguments, cwd=work)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("public", ["SharedCollector", "drop_in"])
def test_an_application_may_have_modules_collector_and_exporter_of_its_own(
    bare: Environment, tmp_path: Path, public: str
) -> None:
    write_modules(tmp_path, "collector", "exporter")
    done = bare.run("python", "-c", f"from fogmetrics import {public}; print({public}.__name__)", cwd=tmp_path)
    assert done.stdout.endswith(f"{public}\n"), done.stderr


def test_a_module_of_the_application_that_hides_one_of_ours_is_named(bare: Environment, tmp_path: Path) -> None:
    (tmp_path / "shm.py").touch()
    done = bare.run("python", "-c", "from fogmetrics import SharedCollector", cwd=tmp_path)
    assert f"{tmp_path}/shm.py hides a package of fogmetrics that has the same name; rename it" in done.stderr
