"""What ``fogmetrics status`` says of what supervisord and the rings say. tests/end_to_end asks a daemon."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from exporter.status.programs import Program
from fogmetrics.cli.main import main
from fogmetrics.cli.status import Row, rows, table
from fogmetrics.cli.terminal import RED, ago, painted

FRESH = {"status": "fresh", "age_seconds": 2.4, "up": True}


def program(name: str, state: str = "RUNNING", **more: object) -> dict[str, object]:
    return {
        "name": name, "statename": state, "start": 1000, "now": 1075, "exitstatus": 0, "spawnerr": "",
        "stdout_logfile": f"/log/{name}.log", **more,
    }  # fmt: skip


EXPORTER = program("exporter")


def wrong(node: dict[str, object] | None, source: dict[str, Any] | None, line: str = "") -> str:
    """What is wrong with the source node, which is on."""
    found = [EXPORTER, *([node] if node else [])]
    made = rows(found, {}, {"node": line}, {"node": source} if source else {}, ["node"], [])
    assert {row.name: row.wrong for row in made if row.name != "node"} == {"exporter": ""}
    [row] = [row for row in made if row.name == "node"]
    return row.wrong


def test_a_row_has_the_state_the_time_since_the_start_the_starts_and_the_age_of_the_newest_frame() -> None:
    counted = {"node": Program("RUNNING", 3, 0, "", "")}
    [node, exporter, host] = rows([EXPORTER, program("node")], counted, {}, {"node": FRESH}, ["node"], ["host"])
    assert node == Row("node", "running", "1 min", "3", "2 s ago", "")
    assert exporter == Row("exporter", "running", "1 min", "", "", "")
    assert host == Row("host", "off")


@pytest.mark.parametrize(
    ("node", "source", "said"),
    [
        (program("node"), FRESH, ""),
        (program("node", "STARTING"), FRESH, ""),
        (program("node"), None, "it has no ring yet"),
        (program("node"), {"status": "empty", "up": None}, "it has no frame yet"),
        (program("node"), {**FRESH, "status": "stale", "up": None}, "it is stale"),
        (program("node"), {**FRESH, "up": False}, "its last collection failed; see /log/node.log"),
        (program("node"), {"status": "unreadable", "error": "ring 'node': torn"}, "ring 'node': torn"),
        (program("node", "STOPPED"), FRESH, "it is stopped"),
        (
            program("node", "FATAL"),
            FRESH,
            "supervisord has given it up; correct the cause, then run fogmetrics reload",
        ),
        (program("node", "BACKOFF"), FRESH, "it fails, and is started again; its log ends with: last words"),
        (program("node", "EXITED", exitstatus=3), FRESH, "it has ended with status 3; its log ends with: last words"),
        (None, FRESH, "it has no program; fogmetrics reload creates it"),
    ],
)
def test_what_is_wrong_is_said(node: dict[str, object] | None, source: dict[str, Any] | None, said: str) -> None:
    assert wrong(node, source, "last words").startswith(said)
    assert bool(wrong(node, source)) == bool(said)


def test_a_program_that_could_not_be_started_at_all_has_supervisords_reason() -> None:
    assert "can't find command" in wrong(program("node", "FATAL", spawnerr="can't find command 'x'"), None)


def test_a_program_and_a_ring_of_the_users_own_are_shown_too() -> None:
    made = rows([EXPORTER, program("web", "FATAL")], {}, {}, {"other": {**FRESH, "status": "stale"}}, [], [])
    assert [(row.name, bool(row.wrong)) for row in made] == [("exporter", False), ("web", True), ("other", True)]


@pytest.mark.parametrize(
    ("ends", "said"), [(2, ""), (3, "it has ended 3 times in the last 10 minutes; see /log/node.log")]
)
def test_a_program_that_ends_again_and_again_is_wrong_though_it_runs(ends: int, said: str) -> None:
    counted = Program("RUNNING", 9, ends, "", "")
    [node, _] = rows([EXPORTER, program("node")], {"node": counted}, {}, {"node": FRESH}, ["node"], [])
    assert (node.state, node.starts, node.wrong) == ("running", "9", said)


def test_the_columns_are_aligned_and_have_no_colour_outside_of_a_terminal() -> None:
    lines = table([Row("deployment", "running", "2 h", "1", "3 s ago"), Row("node", "fatal", wrong="gone")])
    assert lines == [
        "NAME        STATE    FOR  STARTS  LAST FRAME  WRONG",
        "deployment  running  2 h  1       3 s ago",
        "node        fatal                             gone",
    ]


def test_colour_is_for_terminals_and_not_where_no_color_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert painted("x", RED, Terminal()) == "\x1b[31mx\x1b[0m"
    assert painted("x", RED, io.StringIO()) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert painted("x", RED, Terminal()) == "x"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "0 s"), (59, "59 s"), (60, "1 min"), (3600, "1 h"), (7500, "2 h 5 min"), (90_000, "1 d 1 h")],
)
def test_a_time_has_one_or_two_units(seconds: float, text: str) -> None:
    assert ago(seconds) == text


@pytest.mark.parametrize("command", ["status", "reload"])
def test_without_a_daemon_it_says_how_one_is_started(
    command: str, toml: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, str(toml.parent)]) == 75
    assert f"no daemon runs in {toml.parent}" in capsys.readouterr().err
