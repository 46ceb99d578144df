"""The class that supervisord loads. tests/end_to_end/test_service_manager.py has it in a real one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from supervisor import events
from supervisor.states import ProcessStates

from exporter.status.programs import Program, read
from fogmetrics.cli.notify import Notifier


@pytest.fixture
def supervisord(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    logged: list[str] = []
    options = SimpleNamespace(
        serverurl=f"unix://{tmp_path}/supervisor.sock", logger=SimpleNamespace(error=logged.append)
    )
    yield SimpleNamespace(options=options, logged=logged, process_groups={})
    events.clear()


def process(name: str, state: int) -> Any:
    config = SimpleNamespace(name=name, stdout_logfile=f"/log/{name}.log")
    return SimpleNamespace(config=config, get_state=lambda: state, spawnerr="no such file", exitstatus=1, group=None)


def test_the_file_has_the_state_of_each_program_and_those_that_are_gone_leave_it(
    supervisord: Any, tmp_path: Path
) -> None:
    Notifier(supervisord)
    node = process("node", ProcessStates.FATAL)
    supervisord.process_groups["node"] = SimpleNamespace(processes={"node": node})
    events.notify(events.ProcessStateFatalEvent(node, ProcessStates.BACKOFF))
    assert read(tmp_path) == {"node": Program("FATAL", 0, 0, "no such file", "/log/node.log")}
    supervisord.process_groups.clear()
    events.notify(events.Tick5Event(5, None))
    assert read(tmp_path) == {}


def test_a_fault_of_the_class_is_logged_and_ends_no_supervisord(supervisord: Any) -> None:
    Notifier(supervisord)
    supervisord.process_groups["node"] = None
    events.notify(events.Tick5Event(5, None))
    assert "'NoneType' object has no attribute 'processes'" in supervisord.logged[0]
