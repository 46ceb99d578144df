"""Wheels built from this tree, and environments that have what a wheel installs. Neither needs a network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.packages import PRODUCT, ROOT

_FILES = ("pyproject.toml", "README.md", "LICENSE")
_SITE_PACKAGES = Path(sysconfig.get_path("purelib"))


def build(directory: Path, change: Callable[[Path], None] = lambda tree: None) -> Path:
    """The wheel of a copy of this tree in ``directory``, after ``change`` has edited the copy."""
    tree = directory / "tree"
    for name in PRODUCT:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in _FILES:
        shutil.copy(ROOT / name, tree)
    change(tree)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", directory, tree], check=True, timeout=100)
    [wheel] = directory.glob("*.whl")
    return wheel


def replace(path: Path, old: str, new: str) -> None:
    """Replace a text in a file, which must have it."""
    text = path.read_text()
    assert old in text, f"{path} does not have {old!r}"
    path.write_text(text.replace(old, new))


def write_modules(directory: Path, *names: str) -> None:
    """Modules of these names that end the process that imports one."""
    for name in names:
        (directory / f"{name}.py").write_text(f"raise SystemExit('imported: {directory}/{name}.py')\n")


class Environment:
    """A virtual environment that takes libraries from the one of the tests: all, or those of these names.

    ``bin``: the directory of its console scripts.
    """

    def __init__(self, directory: Path, *libraries: str) -> None:
        venv.create(directory, symlinks=True)
        self.bin = directory / "bin"
        shared = directory / "libraries"
        shared.mkdir()
        for path in _SITE_PACKAGES.iterdir():
            name = path.name.partition("-")[0].partition(".")[0]
            # Its own pip installs into this environment; fogmetrics must come from the wheel alone.
            if "fogmetrics" not in path.name and (not libraries or name in ("pip", *libraries)):
                (shared / path.name).symlink_to(path)
        [packages] = directory.glob("lib/python*/site-packages")
        (packages / "libraries.pth").write_text(f"{shared}\n")
        (self.bin / "supervisord").symlink_to(Path(sys.executable).parent / "supervisord")

    def install(self, wheel: Path) -> None:
        pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
        self.run("python", *pip, wheel).check_returncode()

    def uninstall(self) -> None:
        self.run("python", "-m", "pip", "uninstall", "--quiet", "--yes", "fogmetrics").check_returncode()

    def run(self, program: str, *arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / program, *arguments], cwd=cwd, env=environ(), capture_output=True, text=True, timeout=100
        )


def environ() -> Mapping[str, str]:
    """This process's environment without what would change which program or which daemon is meant."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("FOGMETRICS_", "PYTHON"))}
