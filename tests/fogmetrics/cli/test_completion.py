"""bash and zsh complete the command by the printed script."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
from pathlib import Path

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


@pytest.mark.parametrize("command", COMMANDS)
def test_the_options_of_a_command_are_those_of_its_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([command, "--help"])
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out.partition("options:")[2]))
    assert set(completed(capsys, "bash", command, "--")) == options


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_another_argument_is_a_path_which_the_shell_itself_completes(
    shell: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")
    assert completed(capsys, "bash", "run", "a d") == []
    assert main(["completion", shell]) == 0
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "a daemon").mkdir()
    assert "a\\ daemon/" in typed(shell, tmp_path, "fogmetrics run a\\ d\t")
    assert "fogmetrics status " in typed(shell, tmp_path, "fogmetrics sta\t")


def typed(shell: str, directory: Path, text: str) -> str:
    """What a terminal of the shell shows after the text, with the completions of the file ``script``."""
    plain = {"bash": ["bash", "--norc", "--noprofile", "-i"], "zsh": ["zsh", "-f", "-i"]}[shell]
    terminal, inner = pty.openpty()
    environ = {**os.environ, "TERM": "dumb", "PS1": "> ", "INPUTRC": "/dev/null"}
    process = subprocess.Popen(
        plain, cwd=directory, env=environ, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
    )
    try:
        os.write(terminal, b"source ./script; echo read''y\n")
        read(terminal, "ready\r\n")
        os.write(terminal, text.encode())
        return read(terminal, "")
    finally:
        process.kill()
        process.wait()
        os.close(inner)
        os.close(terminal)


def read(terminal: int, end: str) -> str:
    """What the terminal shows until ``end``, or, if that is empty, until it shows no more for a second."""
    shown = ""
    while not (end and end in shown) and select.select([terminal], [], [], 20 if end else 1)[0]:
        shown += os.read(terminal, 4096).decode(errors="replace")
    return shown
