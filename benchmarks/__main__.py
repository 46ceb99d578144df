"""``python -m benchmarks [QUESTION …] [--scale X] [--json FILE] [--write]``: side by side with the peers.

Without a name all questions, in the order of benchmarks/LOG.md. ``--write`` puts tables and charts there.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from benchmarks import report
from benchmarks.harness import Answer, Effort
from benchmarks.questions import QUESTIONS


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("question", nargs="*", metavar="QUESTION", help=f"of {', '.join(QUESTIONS)}; none: all")
    parser.add_argument("--scale", type=float, default=1.0, help="that many times as many turns")
    parser.add_argument("--json", type=Path, help="also write all that was measured to this file")
    parser.add_argument("--write", action="store_true", help="put tables and charts into benchmarks/LOG.md")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.question if name not in QUESTIONS]:
        parser.error(f"there is no question {unknown[0]!r}; the questions are {', '.join(QUESTIONS)}")
    if options.write and options.scale != 1:
        parser.error("--write goes without --scale: the tables are of whole runs")
    answers: dict[str, tuple[float, Answer]] = {}
    status = 0
    for name in options.question or QUESTIONS:
        ask: Callable[[Effort], Answer] = importlib.import_module(f"benchmarks.{name}").ask
        begun = time.monotonic()
        try:
            answer = ask(Effort(options.scale))
        except Exception:  # noqa: BLE001 - one question that can't be answered costs itself alone
            print(f"{name} was not answered:\n{traceback.format_exc()}", file=sys.stderr, flush=True)
            status = 1
            continue
        answers[name] = time.monotonic() - begun, answer
        print(report.table(name, *answers[name]), flush=True)
    if options.json:
        report.write_json(options.json, answers)
    if options.write:
        report.write_docs(answers)
    return status


if __name__ == "__main__":
    sys.exit(main())
