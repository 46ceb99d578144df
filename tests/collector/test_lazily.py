from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from collector.lazily import postpone
from tests.daemon import ROOT
from tests.programs import unmeasured


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that nobody has imported, and that says when its code runs."""
    (tmp_path / "postponed_one.py").write_text("import sys\nsys.ran.append(__name__)\nanswer = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "ran", [], raising=False)
    monkeypatch.setitem(sys.modules, "postponed_one", None)
    del sys.modules["postponed_one"]
    return "postponed_one"


def ran() -> list[str]:
    found: list[str] = vars(sys)["ran"]
    return found


def test_a_postponed_module_runs_when_something_of_it_is_used_and_once(module: str) -> None:
    postpone(module)
    stand_in = __import__(module)
    assert __import__(module) is stand_in
    assert ran() == []
    assert stand_in.answer == 42
    assert stand_in.answer == 42
    assert ran() == [module]


def test_whoever_imports_it_after_that_has_the_module_itself(module: str) -> None:
    postpone(module)
    stand_in = __import__(module)
    assert stand_in.answer == 42
    assert __import__(module) is not stand_in
    assert __import__(module).answer == 42
    assert ran() == [module]


def test_a_name_taken_from_it_is_a_use(module: str) -> None:
    postpone(module)
    names: dict[str, object] = {}
    exec(f"from {module} import answer", names)
    assert names["answer"] == 42


def test_what_it_lacks_is_an_attribute_error_as_ever(module: str) -> None:
    postpone(module)
    with pytest.raises(AttributeError, match="no attribute 'question'"):
        _ = __import__(module).question


def test_threads_that_use_it_first_in_the_same_instant_all_have_it(module: str, tmp_path: Path) -> None:
    (tmp_path / f"{module}.py").write_text("import sys, time\nsys.ran.append(1)\ntime.sleep(0.1)\nanswer = 42\n")
    postpone(module)
    stand_in = __import__(module)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(stand_in.answer)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [42] * 8
    assert len(ran()) == 1


def test_a_module_that_is_loaded_stays_what_it_is(module: str) -> None:
    loaded = __import__(module)
    postpone(module)
    assert sys.modules[module] is loaded


def test_a_collector_of_the_node_and_of_the_system_carries_nothing_that_it_does_not_use() -> None:
    code = """
import collector.__main__, collector.sources.node.source, collector.sources.system, sys
heavy = {"argparse", "asyncio", "httpx", "numpy", "psutil", "shutil", "socket", "subprocess"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
assert "__file__" not in vars(sys.modules["traceback"])
try:
    raise KeyError("why")
except KeyError:
    import logging
    logging.exception("it says")
assert "__file__" in vars(sys.modules["traceback"])
"""
    # Without what measures the coverage of subprocesses, which loads sockets.
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=unmeasured(), capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stderr.splitlines()[-1] == "KeyError: 'why'"
