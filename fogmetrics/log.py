"""Structured logs of every process: one line an event, ``key=value`` for people or JSON for machines.

Call sites pass their fields by ``extra``: ``log.info("source down", extra={"source": name, "error": text})``.
A logging package would add megabytes to every collector, which takes ten in all; so this uses the standard library.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fogmetrics.settings.reader import key

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}


@dataclass(frozen=True, slots=True)
class LogConfig:
    """[log]"""

    level: str = key("info", "Least severity that is written.", choices=("debug", "info", "warning", "error"))
    format: str = key("logfmt", "logfmt for people, json for machines.", choices=("logfmt", "json"))


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a line: time, level, logger, event, then the call site's fields in its order."""
    fields: dict[str, Any] = {
        "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "event": record.getMessage(),
    }
    fields.update((name, value) for name, value in record.__dict__.items() if name not in _STANDARD)
    if record.exc_info:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return fields


class LogfmtFormatter(logging.Formatter):
    """``key=value`` with values quoted where they hold a space, a quote or an equals sign."""

    def format(self, record: logging.LogRecord) -> str:
        return " ".join(f"{name}={_quoted(value)}" for name, value in fields_of(record).items())


class JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(fields_of(record), ensure_ascii=False, default=str)


def _quoted(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if text and not any(character in ' "=\\' or not character.isprintable() for character in text):
        return text
    return json.dumps(text, ensure_ascii=False)


def set_up(level: str, form: str) -> None:
    """Write all logs of this process to standard error, in the format ``form``: logfmt or json."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else LogfmtFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Hide their line per request.
    for name in ("httpx", "httpcore", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
