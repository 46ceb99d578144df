from __future__ import annotations

from types import SimpleNamespace

from fogmetrics.cli.supervisor import last_line


def test_the_last_line_of_a_log_is_the_reason_why_a_program_was_not_spawned() -> None:
    log = "supervisor: couldn't exec /opt/python: EACCES\nsupervisor: child process was not spawned\n\n"
    supervisor = SimpleNamespace(tailProcessStdoutLog=lambda *_: [log, 0, False])
    assert last_line(supervisor, "node") == "supervisor: couldn't exec /opt/python: EACCES"
