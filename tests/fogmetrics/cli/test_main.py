from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fogmetrics.cli.main import COMMANDS, main
from shm import VERSION
from tests.daemon import ROOT


def test_the_version_is_the_packages() -> None:
    run = subprocess.run([sys.executable, "-m", "fogmetrics", "--version"], capture_output=True, text=True, timeout=30)
    assert (run.returncode, run.stdout) == (0, f"fogmetrics {VERSION}\n")


def test_help_names_every_command_and_so_does_no_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert capsys.readouterr().out == shown
    for name, (_, what) in COMMANDS.items():
        assert f"  {name:<12}{what}\n" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_that_names_its_arguments(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([name, "--help"])
    assert capsys.readouterr().out.startswith(f"usage: fogmetrics {name} ")
    assert callable(importlib.import_module(COMMANDS[name][0]).main)


def test_a_misspelt_command_is_answered_with_the_right_one(capsys: pytest.CaptureFixture[str]) -> None:
    for typed, said in (("onec", "did you mean 'once'?"), ("x", "the commands are run, ")):
        with pytest.raises(SystemExit, match="2"):
            main([typed])
        assert f"there is no command {typed!r}; {said}" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", ["once node", "check", "--help"])
def test_a_reader_that_goes_away_is_no_traceback(toml: Path, arguments: str) -> None:
    unread, output = os.pipe()
    os.close(unread)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": ""}
    command = [sys.executable, "-m", "fogmetrics", *arguments.split()]
    try:
        run = subprocess.run(
            command, cwd=toml.parent, env=environ, stdout=output, stderr=subprocess.PIPE, text=True, timeout=60
        )
    finally:
        os.close(output)
    assert (run.returncode, run.stderr) == (141, "")


def test_output_that_goes_nowhere_or_on_a_full_disk_is_no_traceback(toml: Path) -> None:
    command = f"'{sys.executable}' -m fogmetrics check --config-only '{toml.parent}'"
    said = "fogmetrics: the output can't be written: No space left on device\n"
    for where, status, error in (("/dev/full", 75, said), ("&-", 0, "")):
        run = subprocess.run(
            ["bash", "-c", f"{command} >{where}"], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert (run.returncode, run.stderr) == (status, error)


def test_a_working_directory_that_was_removed_is_one_sentence(tmp_path: Path) -> None:
    command = f"cd '{tmp_path}' && mkdir gone && cd gone && rmdir ../gone && '{sys.executable}' -m fogmetrics status"
    environ = {"PYTHONPATH": str(ROOT)}
    run = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, env=environ)
    assert (run.returncode, run.stdout) == (75, "")
    assert run.stderr == "fogmetrics: the working directory was removed; change to one that exists\n"
