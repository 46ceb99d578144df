"""A clone in a directory with an odd name."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.daemon import ROOT, STATES, Daemon
from tests.programs import wait_until


@pytest.mark.parametrize("name", ["it's é", "a; b #$&`!{", "x\ty\n*:?"])
def test_a_daemon_runs_in_a_directory_whose_name_the_check_takes(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    directory = tmp_path_factory.mktemp("d") / name
    daemon = Daemon(directory)
    (directory / "supervisord.conf").write_text((ROOT / "supervisord.conf").read_text())
    (directory / ".venv").symlink_to(sys.prefix)
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "FOGMETRICS_CONFIG": ""}
    check = [f"{sys.prefix}/bin/python", "-m", "fogmetrics.cli.check", "."]
    done = subprocess.run(check, cwd=directory, env=environ, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    with daemon:
        daemon.wait_until_collected("node", "deployment", "system")
        wait_until(lambda: daemon.states() == STATES, 10, "all programs")
