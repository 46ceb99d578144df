"""What is said where a machine can't be emulated."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.siege.emulated.check import MUTANTS, check
from tests.siege.emulated.userlands import ARM64, NotPossible, main, make, userland
from tests.siege.harness import Effort, refuted


def test_without_the_emulator_the_check_is_skipped_and_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match=r"qemu-aarch64-static is not installed: apt-get install qemu"):
        check(Effort())
    with pytest.raises(NotPossible, match=r"qemu-aarch64-static is not installed: apt-get install qemu"):
        make(ARM64)


@pytest.mark.mutant
def test_without_the_emulator_its_mutants_are_skipped_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match=r"emulated: not run: .* apt-get install qemu"):
        refuted(MUTANTS[0], tmp_path)


def test_without_a_userland_the_check_is_skipped_and_says_how_to_make_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _with_an_emulator(monkeypatch, tmp_path)
    with pytest.raises(
        pytest.skip.Exception, match=r"no userland of arm64 in .*: python -m tests.siege.emulated.userlands"
    ):
        check(Effort())


def test_where_there_is_no_apt_get_none_can_be_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _with_an_emulator(monkeypatch, tmp_path)
    assert main() == 1
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("no userland of arm64: apt-get is not installed; ")
    assert said[1].startswith("no userland of s390x: qemu-s390x-static is not installed: apt-get install ")


def test_a_userland_that_is_not_whole_or_of_other_packages_is_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    _with_an_emulator(monkeypatch, tmp_path)
    ARM64.folder().mkdir(parents=True)
    assert userland(ARM64) is None
    (ARM64.folder() / "made-of").write_text("python3\n")
    assert userland(ARM64) is None
    (ARM64.folder() / "made-of").write_text(" ".join(ARM64.packages) + "\n")
    assert userland(ARM64) is not None


def _with_an_emulator(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """One that is found, nothing else, and a cache that is empty."""
    program = directory / "bin" / ARM64.emulators[1]
    program.parent.mkdir()
    program.touch(0o700)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(directory / "cache"))
