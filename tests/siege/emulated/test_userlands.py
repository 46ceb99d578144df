"""The check ``emulated`` is skipped, with the remedy, where a machine can't be emulated."""

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


def test_without_a_userland_the_check_is_skipped_and_says_how_to_make_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / ARM64.emulators[1]
    program.parent.mkdir()
    program.touch(0o700)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(pytest.skip.Exception, match=r"no userland of arm64 in .*: python -m tests.siege.emulated"):
        check(Effort())
    with pytest.raises(NotPossible, match="apt-get is not installed"):
        make(ARM64)
    assert main() == 1
    ARM64.folder().mkdir(parents=True)
    for made_of in ("python3\n", " ".join(ARM64.packages) + "\n"):
        assert userland(ARM64) is None  # not whole, then of other packages
        (ARM64.folder() / "made-of").write_text(made_of)
    assert userland(ARM64) is not None


@pytest.mark.mutant
def test_without_the_emulator_its_mutants_are_skipped_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(pytest.skip.Exception, match=r"emulated: not run: .* apt-get install qemu"):
        refuted(MUTANTS[0], tmp_path)
