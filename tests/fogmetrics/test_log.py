"""Logs: one line an event, in logfmt or JSON."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

import pytest

from fogmetrics.log import JsonFormatter, LogfmtFormatter, set_up


def record(message: str = "source down", **fields: Any) -> logging.LogRecord:
    made = logging.makeLogRecord({"name": "collector", "levelno": 30, "levelname": "WARNING", "msg": message, **fields})
    made.created = 1_700_000_000.1239
    return made


def test_logfmt_is_time_level_logger_event_and_the_call_sites_fields_in_their_order() -> None:
    assert LogfmtFormatter().format(record(source="node", error="timed out", seconds=0.123456789, n=3)) == (
        'time=2023-11-14T22:13:20.123Z level=warning logger=collector event="source down" '
        'source=node error="timed out" seconds=0.123457 n=3'
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [("a=b", '"a=b"'), ('"', '"\\""'), ("", '""'), ("a\nb", '"a\\nb"'), ("\x1b[31m", '"\\u001b[31m"'), ("ü", "ü"),
     ("a\\b", '"a\\\\b"'), (None, "None")],
)  # fmt: skip
def test_logfmt_quotes_what_would_not_be_one_word(value: object, written: str) -> None:
    assert LogfmtFormatter().format(record("down", x=value)).endswith(f"event=down x={written}")


def test_json_is_one_object_a_line() -> None:
    line = JsonFormatter().format(record(source="node", path=sys, text="a\nb"))
    assert "\n" not in line
    fields = json.loads(line)
    assert list(fields) == ["time", "level", "logger", "event", "source", "path", "text"]
    assert (fields["event"], fields["text"]) == ("source down", "a\nb")


def test_an_exception_is_a_field_of_its_line() -> None:
    try:
        raise ValueError("no good")
    except ValueError:
        failed = record("failed", exc_info=sys.exc_info())
    for formatter in (LogfmtFormatter(), JsonFormatter()):
        line = formatter.format(failed)
        assert "\n" not in line
        assert "ValueError: no good" in line


def test_set_up_sends_all_logs_of_the_level_and_above_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("warning", "json")
    set_up("info", "logfmt")
    logging.getLogger("shm").info("ring rebuilt", extra={"ring": "node"})
    logging.getLogger("shm").debug("unseen")
    logging.getLogger("httpx").info("unseen")
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.endswith('logger=shm event="ring rebuilt" ring=node\n')
