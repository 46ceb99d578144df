from __future__ import annotations

import os
import subprocess
import sys

import pytest

from fogmetrics.exit import EX_CONFIG, EX_TEMPFAIL, exit_status
from shm.errors import ConfigurationError, WriterBusy
from tests.failing import raising


def test_the_exit_status_says_whose_fault_it_is_and_standard_error_what_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_status("collector node", lambda: 3) == 3
    assert capsys.readouterr().err == ""
    assert exit_status("collector node", raising(ConfigurationError("no such key"))) == EX_CONFIG == 78
    assert capsys.readouterr().err == "collector node: no such key\n"
    assert exit_status("collector node", raising(WriterBusy("node", 7))) == EX_TEMPFAIL == 75
    assert capsys.readouterr().err.startswith("collector node: ring 'node': process 7 already writes to it")


def test_each_mistake_of_a_configuration_is_a_line_with_the_programs_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("exporter", raising(ConfigurationError("no key 'a'", "no key 'b'"))) == EX_CONFIG
    assert capsys.readouterr().err == "exporter: no key 'a'\nexporter: no key 'b'\n"


def test_a_broken_pipe_that_is_not_the_programs_output_is_not_hidden(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BrokenPipeError):
        exit_status("collector node", raising(BrokenPipeError()))


def test_a_fault_of_ours_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        exit_status("collector node", lambda: 1 // 0)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_program_whose_output_is_closed_ends_as_if_nobody_looked(unbuffered: str) -> None:
    body = "import sys; from fogmetrics.exit import exit_status; sys.exit(exit_status('x', lambda: print('text') or 3))"
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" >&-', sys.executable, body],
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered}, stderr=subprocess.PIPE, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (3, b"")
