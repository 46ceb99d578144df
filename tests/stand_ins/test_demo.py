from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from shm.files import check_name
from tests.daemon import ROOT
from tests.stand_ins import demo


def test_the_demo_has_a_namespace_that_no_other_instance_has_whatever_it_is_called() -> None:
    assert check_name("namespace", demo.NAMESPACE).startswith("demo-")
    ask = "from tests.stand_ins import demo; print(demo.NAMESPACE)"
    again = subprocess.run([sys.executable, "-c", ask], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert again.stdout == f"{demo.NAMESPACE}\n"  # so that make clean finds what a killed demo left


def test_make_clean_cleans_the_demo_by_its_own_directory() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert f"fogmetrics clean {demo.DIRECTORY.relative_to(Path(ROOT))} " in makefile
