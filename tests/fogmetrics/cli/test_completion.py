"""bash completes the command by the printed script."""

from __future__ import annotations

import subprocess

import pytest

from fogmetrics.cli.main import COMMANDS, main


def completed(capsys: pytest.CaptureFixture[str], shell: str, *words: str) -> list[str]:
    """The completions of the last of the words."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    script = script[script.index("_fogmetrics() {") :]
    line = " ".join(f"'{word}'" for word in ("fogmetrics", *words))
    ask = f'COMP_WORDS=({line}); COMP_CWORD={len(words)}; _fogmetrics; printf "%s\\n" "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", f"{script}\n{ask}"], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_commands_sources_and_shells_are_completed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert completed(capsys, shell, "") == [*COMMANDS, "--help", "--version"]
    assert completed(capsys, shell, "re") == ["reload"]
    assert completed(capsys, shell, "once", "no") == ["node"]
    assert completed(capsys, shell, "completion", "") == ["bash", "zsh"]


def test_another_argument_is_a_directory_or_an_option(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    directory = tmp_path_factory.mktemp("c")
    (directory / "daemon").mkdir()
    monkeypatch.chdir(directory)
    assert completed(capsys, "bash", "run", "da") == ["daemon"]
    assert completed(capsys, "bash", "status", "--c") == ["--config"]
