"""What was found, for people and for programs: Markdown tables, JSON, and the sections of benchmarks/LOG.md.

Each question has a section of the log between two markers, which is replaced as a whole; text outside of the markers is
written by hand. A page of docs/ that shows a part of the answer has these markers, too. The figures of a section are
also in benchmarks/results/NAME.json, its charts in benchmarks/charts/. docs/performance.md is written by hand.
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import chart
from benchmarks.harness import ROOT, Answer, Breakdown, Measured, Table, Target
from benchmarks.questions import QUESTIONS

DOCS = ROOT / "docs"
BENCHMARKS = ROOT / "benchmarks"
LOG = BENCHMARKS / "LOG.md"


def table(name: str, seconds: float, answer: Answer) -> str:
    """The answer as Markdown: where it was measured, the figures, the targets, what is missing, how to read it."""
    return "\n\n".join([f"## {answer.title}", _where(seconds), *_blocks(answer)]) + "\n"


def write_json(path: Path, answers: Mapping[str, tuple[float, Answer]]) -> None:
    """All that was measured, by question."""
    path.write_text(_json({name: _plain(seconds, answer) for name, (seconds, answer) in answers.items()}))


def write_docs(answers: Mapping[str, tuple[float, Answer]]) -> None:
    """Put each answer into benchmarks/LOG.md, its figures and its charts beside it."""
    page = LOG.read_text()
    for name, (seconds, answer) in answers.items():
        page = with_section(page, name, _section(name, seconds, answer))
        (BENCHMARKS / "results" / f"{name}.json").write_text(_json(_plain(seconds, answer)))
        for one in answer.charts:
            chart.write(BENCHMARKS / "charts" / f"{one.name}.svg", one)
        for other, text in answer.short.items():
            where = f"\n{_where(seconds)}\n\n"
            (DOCS / other).write_text(with_section((DOCS / other).read_text(), name, where + text + "\n\n"))
    LOG.write_text(page)


def with_section(page: str, name: str, section: str) -> str:
    """The page with that text between the question's markers.

    A question without markers gets them behind the nearest question before it, else before the nearest one after it,
    else at the page's end.
    """
    begin, end = _markers(name)
    marked = f"{begin}\n{section}{end}\n"
    if begin in page:
        before, _, rest = page.partition(begin)
        return before + marked + rest.partition(f"{end}\n")[2]
    order = list(QUESTIONS)
    for other in reversed(order[: order.index(name)]):
        mark = _markers(other)[1] + "\n"
        if mark in page:
            return page.replace(mark, f"{mark}\n{marked}")
    for other in order[order.index(name) + 1 :]:
        mark = _markers(other)[0]
        if mark in page:
            return page.replace(mark, f"{marked}\n{mark}")
    return f"{page.rstrip()}\n\n{marked}"


def _markers(name: str) -> tuple[str, str]:
    return f"<!-- bench {name} -->", f"<!-- end of bench {name} -->"


def _section(name: str, seconds: float, answer: Answer) -> str:
    charts = [f"![{one.title}](charts/{one.name}.svg)" for one in answer.charts]
    command = f"```console\n$ make bench ONLY={name}\n```"
    blocks = [f"## {answer.title}", command, _where(seconds), *charts, *_blocks(answer)]
    return "\n\n".join(blocks) + "\n\n"


def _blocks(answer: Answer) -> Iterable[str]:
    if answer.measured:
        yield rows(("what", "median", "lowest to highest", "turns"), map(_measured, answer.measured))
    for one in answer.breakdowns:
        yield rows((one.what, "share", "time"), _parts(one))
    yield from table_blocks(answer.tables)
    if answer.targets:
        yield rows(("target", "what", "limit", "measured", "met"), map(target, answer.targets))
    if answer.missing:
        yield "Missing on this machine:"
        yield "\n".join(dict.fromkeys(f"- {one.what}: {one.how}" for one in answer.missing))
    if answer.notes:
        yield "How to read it:"
        yield "\n".join(f"- {note}" for note in answer.notes)


def table_blocks(tables: Iterable[Table]) -> Iterable[str]:
    for one in tables:
        yield one.what
        yield rows(one.head, one.rows)


def rows(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """A Markdown table. A bar in a cell would end it."""
    line = "|" + "---|" * len(head)
    cells = ["| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in (head, *rows)]
    return "\n".join([cells[0], line, *cells[1:]])


def _measured(one: Measured) -> tuple[str, ...]:
    turns = str(len(one.turns))
    return one.what, f"{_figure(one.median)} {one.unit}", f"{_figure(one.low)} to {_figure(one.high)}", turns


def _parts(one: Breakdown) -> Iterable[tuple[str, ...]]:
    for part, value in one.parts.items():
        yield part, f"{100 * value / one.whole:.0f} %", f"{_figure(value)} {one.unit}"


def target(one: Target) -> tuple[str, ...]:
    unit = f" {one.unit}" if one.unit else " times"
    sign = "≥" if one.at == "least" else "≤"
    met = "yes" if one.met else "**no**"
    return one.key, one.says, f"{sign} {one.limit:,g}{unit}", f"{_figure(one.measured)}{unit}", met


def percentile(values: Sequence[float], percent: float) -> float:
    """The sample at that place, not a line between two."""
    return float(np.percentile(values, percent, method="higher"))


def _figure(value: float) -> str:
    """Three digits that mean something, never as a power of ten; of what was counted all."""
    if isinstance(value, int):
        return f"{value:,}"
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3 if size >= 0.1 else 4
    return f"{value:,.{digits}f}"


def machine() -> dict[str, Any]:
    """Where this runs: what the figures depend on."""
    return {
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "kernel": ".".join(platform.release().split(".")[:2]),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }


def _cpu() -> str:
    """The processor's name, as /proc/cpuinfo of x86 has it; elsewhere the architecture."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _where(seconds: float) -> str:
    on = machine()
    return (
        f"{on['cpu']}, {on['cpus']} CPUs, Linux {on['kernel']}; Python {on['python']}, numpy {on['numpy']}; "
        f"{seconds:.0f} s in all."
    )


def _plain(seconds: float, answer: Answer) -> dict[str, Any]:
    return {
        "title": answer.title,
        "machine": machine(),
        "seconds": round(seconds, 1),
        "measured": [dataclasses.asdict(one) | {"median": one.median} for one in answer.measured],
        "breakdowns": [dataclasses.asdict(one) for one in answer.breakdowns],
        "tables": [dataclasses.asdict(one) for one in answer.tables],
        "targets": [dataclasses.asdict(one) | {"met": one.met} for one in answer.targets],
        "charts": [dataclasses.asdict(one) for one in answer.charts],
        "missing": [{"what": one.what, "how": one.how} for one in answer.missing],
        "notes": answer.notes,
    }


def _json(found: dict[str, Any]) -> str:
    # Six digits: what lies behind them was never measured.
    rounded = json.loads(json.dumps(found), parse_float=lambda text: float(f"{float(text):.6g}"))
    return json.dumps(rounded, indent=1, ensure_ascii=False) + "\n"
