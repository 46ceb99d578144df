"""An environment of an application, which has fogmetrics without the libraries of the daemon."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import prometheus_client
import pytest
import xxhash

from tests.rings import ROOT
from tests.rings import namespace as namespace

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path, namespace: str) -> Run:
    """Runs Python with the standard library, fogmetrics, and what that requires without extras."""
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert [one.partition(">")[0] for one in required] == ["xxhash"]
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "xxhash").symlink_to(Path(xxhash.__file__).parent)
    environ = {"PYTHONPATH": f"{ROOT}:{packages}", "FOGMETRICS_NAMESPACE": namespace}

    def python(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-S", *arguments], env=environ, cwd=tmp_path, capture_output=True, text=True, timeout=60
        )

    return python


def test_an_application_counts(run: Run, namespace: str) -> None:
    code = (
        "from fogmetrics import SharedCollector; one = SharedCollector('web'); "
        "one.register_metric('jobs', 'counter'); one.increment('jobs', 3); print(one.series('jobs').get())"
    )
    done = run("-c", code)
    assert (done.stdout, done.stderr) == ("3.0\n", "")


def test_an_application_s_own_page_says_what_to_install(run: Run, tmp_path: Path) -> None:
    (tmp_path / "packages" / "prometheus_client").symlink_to(Path(prometheus_client.__file__).parent)
    done = run("-c", "from fogmetrics.application.drop_in_page import families; next(families('n', 'web'))")
    assert done.stderr.splitlines()[-1] == (
        "ImportError: an application's own page needs numpy, which this environment lacks; install it: "
        "pip install 'fogmetrics[page]'"
    )
