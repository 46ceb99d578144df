"""Costs of the metrics of a program with many processes: the drop-in compared with the original.

The original is prometheus_client's multiprocess mode, with its files in shared memory like our tables and its page from
a server that does nothing else. Our page comes from the exporter.
"""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks import meter, report
from benchmarks.counting import APPLICATION, STORES, Kind, counting
from benchmarks.harness import Answer, Chart, Effort, Measured, in_turns
from benchmarks.meter import Meter
from benchmarks.peers.multiprocess_page import multiprocess_page
from benchmarks.served import Scrapers
from shm.files import DIRECTORY
from tests import http_client
from tests.programs import exporting
from tests.rings import files_of, remove_files_of
from tests.shop import Load, Watch, shop

_OURS: Final = "drop-in"
_THEIRS: Final = "prometheus_client"
_SHARED: Final = "`SharedCollector`"
_KINDS: Final[dict[str, Kind]] = {_OURS: "drop_in", _THEIRS: "original", _SHARED: "shared"}
_STORE_NAMES: Final = dict(
    zip(STORES, ("`inc()` of a counter", "`set()` of a gauge", "`observe()` of a histogram", "`observe()` of a summary",
                 "`labels().inc()`"), strict=True)
)  # fmt: skip
_STORES_A_TURN: Final = {_OURS: 1_000_000, _THEIRS: 100_000, _SHARED: 500_000}  # a turn takes a fraction of a second
_NO_LABEL: Final = '[applications]\nlabel = ""'  # so that the pages have the same series
_WORKERS: Final = 4
_SERIES: Final = 1000
_PROCESSES: Final = (4, 20, 100)
_RESTARTS: Final = 1000
_MARKS: Final = 4  # scraped after each quarter of the restarts
_GUNICORN_REQUESTS: Final = 1500
_GUNICORN_EACH: Final = 25  # requests of a worker, then another takes its place


def ask(effort: Effort) -> Answer:
    answer = Answer("Applications of many processes")
    _stores(effort, answer)
    pages = _pages(effort, answer)
    storms = _storms(effort, answer)
    _gunicorn(effort, answer)
    answer.charts = [
        Chart("applications-processes", f"A scrape over processes of {_SERIES:,} series", "processes", "ms", pages),
        Chart("applications-restarts", "A scrape over restarts of a worker", "restarts", "ms", storms, log=False),
    ]
    answer.notes = [
        f"Stores in a plain loop: by one process per second of its CPU, by {_WORKERS} processes together per second "
        f"on {os.cpu_count()} processors. `labels().inc()` of {_SHARED} is `increment(name, amount, labels)`.",
        f"Scrapes: every process has the same {_SERIES:,} counters, and increments each of them before each scrape. "
        "Wall time is that of a client with a kept connection, CPU that of the server.",
        f"The page of {_THEIRS} is `generate_latest` of a `MultiProcessCollector`, from a server that does nothing "
        f"else. Its files are in {DIRECTORY}, like the tables of fogmetrics.",
        f"{_RESTARTS:,} restarts are plain forks that count in 50 series (30 counters, 10 gauges, 10 histograms) and "
        f"exit, every second one by SIGKILL, {_WORKERS} at a time; `mark_process_dead` is called for each. Files and "
        "memory are what is allocated after the last one has exited, while the parent lives.",
        f"gunicorn runs {_WORKERS} workers of a WSGI application for {_GUNICORN_REQUESTS:,} requests from four "
        f"clients, and replaces each worker after {_GUNICORN_EACH} requests; it is scraped up to fifty times a "
        "second. Counted wrong: series that differ from the answered requests. Fell or vanished: how often a counter "
        "was lower than at the previous scrape, or absent. Dead processes shown: processes with a series after they "
        f"had exited, which is the meaning of the gauge mode `all` of {_THEIRS}. Its scrapes fail if they meet a file "
        "that a worker has just created, which is empty for a moment.",
    ]
    answer.short["applications.md"] = _short(answer, max(effort.many(_RESTARTS), _MARKS))
    return answer


# ---- both sides ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Side:
    """An application and the page of its metrics. ``files``: the files that hold its values."""

    do: Callable[..., Any]
    pid: int
    scrapers: Scrapers
    files: Callable[[], list[Path]]

    def scrape(self) -> bytes:
        return self.scrapers.get("/metrics")


@contextlib.contextmanager
def _sides(what: str) -> Iterator[dict[str, _Side]]:
    """The drop-in and the original, each with its page."""
    namespace = f"bench-{what}-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="bench-", dir=DIRECTORY) as name, contextlib.ExitStack() as stack:
        stack.callback(remove_files_of, namespace)
        files = Path(name) / "files"
        files.mkdir()
        ours = stack.enter_context(counting("drop_in", namespace, ""))
        theirs = stack.enter_context(counting("original", namespace, str(files)))
        exporter, port = stack.enter_context(exporting(namespace, _NO_LABEL))
        server, their_port = stack.enter_context(multiprocess_page(str(files), Path(name) / "page.log"))

        def side(do: Callable[..., Any], pid: int, port: int, found: Callable[[], list[Path]]) -> _Side:
            return _Side(do, pid, stack.enter_context(contextlib.closing(Scrapers(port, pid))), found)

        yield {
            _OURS: side(ours, exporter.pid, port, lambda: _of_the_application(namespace, APPLICATION)),
            _THEIRS: side(theirs, server.pid, their_port, lambda: list(files.iterdir())),
        }


def _of_the_application(namespace: str, application: str) -> list[Path]:
    return sorted(DIRECTORY.glob(f"fogmetrics.{namespace}.{application}.*"))


def _kib(files: list[Path]) -> float:
    """Allocated KiB of these files."""
    return sum(512 * path.stat().st_blocks for path in files) / 1024


# ---- stores --------------------------------------------------------------------------------------------------


def _stores(effort: Effort, answer: Answer) -> None:
    namespaces = {name: f"bench-stores-{kind.replace('_', '-')}-{os.getpid()}" for name, kind in _KINDS.items()}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=DIRECTORY) as directory, contextlib.ExitStack() as stack:
        applications = {}
        for name, kind in _KINDS.items():
            stack.callback(remove_files_of, namespaces[name])
            applications[name] = stack.enter_context(counting(kind, namespaces[name], directory))
        jobs: dict[str, Callable[[], float]] = {}
        for what, shown in _STORE_NAMES.items():
            for processes in (1, _WORKERS):
                for name, do in applications.items():
                    number = effort.many(_STORES_A_TURN[name]) // processes
                    jobs[_store(shown, processes, name)] = functools.partial(_rate, do, what, number, processes)
        found = in_turns(jobs, effort.turns(9))
    answer.measured += [Measured(what, "million/s", turns) for what, turns in found.items()]


def _rate(do: Callable[..., Any], what: str, number: int, processes: int) -> float:
    return float(do("rate", what, number, processes)) / 1e6


def _store(shown: str, processes: int, name: str) -> str:
    return f"{shown}, {processes} process{'es' * (processes > 1)}: {name}"


# ---- scrapes -------------------------------------------------------------------------------------------------


def _pages(effort: Effort, answer: Answer) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {_OURS: [], _THEIRS: []}
    for processes in _PROCESSES:
        with _sides("pages") as sides:
            times = Meter()
            for name, side in sides.items():
                side.do("start", processes, _SERIES)

                def change(side: _Side = side) -> None:
                    side.do("change")

                times.add(_page(processes, name), side.pid, side.scrape, prepare=change, verify=_is_whole)
            turns = effort.turns(5 if processes == max(_PROCESSES) else 11)
            answer.measured += times.run(turns)
        for name, line in lines.items():
            line.append((processes, answer.median(_page(processes, name))))
    return lines


def _is_whole(page: bytes) -> None:
    assert page.count(b"\ns1000_") >= _SERIES, page[:500]


def _page(processes: int, name: str) -> str:
    return f"a scrape, {processes} × {_SERIES:,} series: {name}"


# ---- restarts ------------------------------------------------------------------------------------------------


def _storms(effort: Effort, answer: Answer) -> dict[str, list[tuple[float, float]]]:
    lines: dict[str, list[tuple[float, float]]] = {_OURS: [], _THEIRS: []}
    seconds = dict.fromkeys(lines, 0.0)
    restarts = max(effort.many(_RESTARTS), _MARKS)
    with _sides("storm") as sides:
        for side in sides.values():
            side.do("restarts", 4)
        for mark in range(1, _MARKS + 1):
            for name, side in sides.items():
                seconds[name] += side.do("restarts", restarts // _MARKS)
            jobs = {name: _scrape_seconds(side) for name, side in sides.items()}
            found = in_turns(jobs, effort.turns(5))
            for name, turns in found.items():
                one = Measured(_after(mark * restarts // _MARKS, name), "ms", [1e3 * each for each in turns])
                lines[name].append((mark * restarts // _MARKS, one.median))
                if mark == _MARKS:
                    answer.measured.append(one)
        for name, side in sides.items():
            kept = side.files()
            counted = sum(
                float(line.split()[-1]) for line in side.scrape().decode().splitlines()
                if line.startswith("r_requests_total")
            )  # fmt: skip
            lost = 30 * (restarts + 4) - round(counted)
            answer.measured += [
                Measured(_left(_FILES, restarts, name), "files", [len(kept)]),
                Measured(_left(_MEMORY, restarts, name), "KiB", [_kib(kept)]),
                Measured(_left(_LOST, restarts, name), "", [lost]),
                Measured(_left(_TAKEN, restarts, name), "s", [seconds[name]]),
            ]
    return lines


_FILES, _MEMORY, _LOST, _TAKEN = "files", "memory", "increments lost", "time that they took"


def _left(what: str, restarts: int, name: str) -> str:
    return f"{restarts:,} restarts, {what}: {name}"


def _scrape_seconds(side: _Side) -> Callable[[], float]:
    return lambda: side.scrapers.cost("/metrics", 1).seconds


def _after(restarts: int, name: str) -> str:
    return f"a scrape, after {restarts:,} restarts: {name}"


# ---- gunicorn ------------------------------------------------------------------------------------------------


def _gunicorn(effort: Effort, answer: Answer) -> None:
    requests = max(effort.many(_GUNICORN_REQUESTS), 4 * _GUNICORN_EACH * _WORKERS)
    for name in (_OURS, _THEIRS):
        namespace = f"bench-gunicorn-{os.getpid()}"
        with tempfile.TemporaryDirectory(prefix="bench-", dir=DIRECTORY) as directory, contextlib.ExitStack() as stack:
            stack.callback(remove_files_of, namespace)
            place = Path(directory)
            files = place / "files"
            files.mkdir()
            environ = {"FOGMETRICS_NAMESPACE": namespace}
            if name == _OURS:
                _, port = stack.enter_context(exporting(namespace, _NO_LABEL))
            else:
                environ["PROMETHEUS_MULTIPROC_DIR"] = str(files)
                _, port = stack.enter_context(multiprocess_page(str(files), place / "page.log"))
            conf = "gunicorn.conf.py" if name == _OURS else "original.conf.py"
            each = ("--max-requests", str(_GUNICORN_EACH))
            running = stack.enter_context(shop(place, conf, environ, *each, workers=_WORKERS))
            seen = running.workers()

            def alive(seen: set[int] = seen) -> set[int]:
                seen |= running.workers()  # noqa: B023 - called while this gunicorn runs
                return running.processes()  # noqa: B023

            with Watch(_asked(port), alive) as watch:
                with Load(running.port, most=requests) as load:
                    load.join()
                samples = watch.look()
            kept = files_of(namespace) if name == _OURS else list(files.iterdir())
            answer.measured += [
                Measured(_under("workers exchanged", name), "", [len(seen) - _WORKERS]),
                Measured(_under("requests answered", name), "", [load.answered]),
                Measured(_under(_WRONG, name), "", [len(load.wrong(samples))]),
                Measured(_under(_FELL, name), "", [len(watch.falls)]),
                Measured(_under(_GHOSTS, name), "", [len(watch.ghosts)]),
                Measured(_under("scrapes", name), "", [watch.scrapes]),
                Measured(_under(_FAILED, name), "", [watch.failed]),
                Measured(_under("files at the end", name), "files", [len(kept)]),
                Measured(_under("memory at the end", name), "KiB", [_kib(kept)]),
            ]


_WRONG, _FELL = "series counted wrong", "counters that fell or vanished"
_GHOSTS, _FAILED = "dead processes shown", "scrapes that failed"


def _under(what: str, name: str) -> str:
    return f"gunicorn, {what}: {name}"


def _asked(port: int) -> Callable[[], str]:
    def asked() -> str:
        try:
            return http_client.get(f"http://127.0.0.1:{port}/metrics", timeout=60).raise_for_status().text
        except httpx.HTTPError as error:
            raise OSError(str(error)) from error

    return asked


# ---- the short table -----------------------------------------------------------------------------------------


def _cpu_of(page: Callable[[str], str], name: str) -> str:
    return meter.cpu(page(name))


def _short(answer: Answer, restarts: int) -> str:
    """The summary for docs/applications.md."""
    rows: list[tuple[str, ...]] = []

    def row(shown: str, unit: str, decimals: int, what: Callable[[str], str]) -> None:
        """``what``: returns the name of the figure for the name of a side."""
        values = (answer.median(what(name)) for name in (_OURS, _THEIRS))
        rows.append((shown, *(f"{value:,.{decimals}f} {unit}".rstrip() for value in values)))

    for store in _STORE_NAMES.values():
        row(f"{store}, in a second of CPU", "million", 1, functools.partial(_store, store, 1))
    for processes in (min(_PROCESSES), max(_PROCESSES)):
        page = functools.partial(_page, processes)
        row(f"a scrape of {processes} × {_SERIES:,} series, all changed", "ms", 1, page)
        row("the same, CPU", "ms", 1, functools.partial(_cpu_of, page))
    row(f"a scrape after {restarts:,} restarts, 50 series", "ms", 1, lambda name: _after(restarts, name))
    row(f"files after {restarts:,} restarts", "", 0, lambda name: _left(_FILES, restarts, name))
    row("memory that they take", "KiB", 0, lambda name: _left(_MEMORY, restarts, name))
    row("increments lost", "", 0, lambda name: _left(_LOST, restarts, name))
    row("under gunicorn: series counted wrong", "", 0, lambda name: _under(_WRONG, name))
    row("under gunicorn: counters that fell or vanished", "", 0, lambda name: _under(_FELL, name))
    row("under gunicorn: dead processes shown", "", 0, lambda name: _under(_GHOSTS, name))
    row("under gunicorn: scrapes that failed", "", 0, lambda name: _under(_FAILED, name))
    return report.rows(("", _OURS, _THEIRS), rows)
