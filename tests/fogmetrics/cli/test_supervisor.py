from __future__ import annotations

import xmlrpc.client
from pathlib import Path
from types import SimpleNamespace

import pytest

from fogmetrics.cli.host import InTheWay
from fogmetrics.cli.supervisor import connected, last_line
from tests.failing import raising


def test_the_last_line_of_a_log_is_the_reason_why_a_program_was_not_spawned() -> None:
    log = "supervisor: couldn't exec /opt/python: EACCES\nsupervisor: child process was not spawned\n\n"
    supervisor = SimpleNamespace(tailProcessStdoutLog=lambda *_: [log, 0, False])
    assert last_line(supervisor, "node") == "supervisor: couldn't exec /opt/python: EACCES"


def test_a_daemon_that_is_stopping_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        xmlrpc.client.ServerProxy, "_ServerProxy__request", raising(xmlrpc.client.Fault(6, "SHUTDOWN_STATE"))
    )
    with pytest.raises(InTheWay, match="is stopping its programs; try again when it has stopped"), connected(tmp_path):
        pass
