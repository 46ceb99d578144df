"""The programs of the daemon, from the file that its supervisord writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.status.programs import FILE, Program, problems, read, server_directory, text

RUNS = Program("RUNNING", 1, 0, "", "/log/node.log")


def test_the_file_is_beside_the_socket_which_the_exporter_need_not_open(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(text({"node": RUNS}))
    directory = server_directory({"SUPERVISOR_SERVER_URL": f"unix://{tmp_path}/no.sock"})
    assert read(directory) == {"node": RUNS}


@pytest.mark.parametrize("url", ["", "http://127.0.0.1:9001", "unix:///nothing/here.sock"])
def test_without_such_a_supervisord_nothing_is_known(url: str) -> None:
    assert read(server_directory({"SUPERVISOR_SERVER_URL": url})) is None


@pytest.mark.parametrize("odd", ["", "[1]", '{"node": 1}', '{"node": ["RUNNING"]}', "\xff"])
def test_a_file_of_another_kind_is_none(tmp_path: Path, odd: str) -> None:
    (tmp_path / FILE).write_text(odd, encoding="latin-1")
    assert read(tmp_path) is None


def test_a_program_is_a_problem_if_it_fails_or_ends_again_and_again() -> None:
    found = problems({
        "node": RUNS,
        "betanet": Program("FATAL", 1, 0, "Exited too quickly", "/log/../betanet.log"),
        "exporter": Program("BACKOFF", 4, 0, "can't find command", ""),
        "own": Program("RUNNING", 4, 3, "", "/log/own.log"),
        "rare": Program("RUNNING", 3, 2, "", "/log/rare.log"),
    })  # fmt: skip
    assert list(found) == [
        "program betanet is FATAL after 1 start: Exited too quickly; its log, /betanet.log, says why",
        "program exporter is BACKOFF after 4 starts: can't find command",
        "program own has ended 3 times in the last 10 minutes; its log, /log/own.log, says why",
    ]
