"""Rates that a real Prometheus computes at scrape intervals other than the source's, in real time.

One server scrapes three targets at four intervals at the same time: our page, our page without timestamps, and
node_exporter, which reads the host when it is scraped. Two daemons collect every 15 s and every 1 s. Rates are
evaluated twice: by rules while the server runs, as in alerts, and over the past when the run is over, as in graphs.
The reference is one per second for a counter of seconds (of node_exporter: its clock), and /proc/stat, read 20 times
a second, for the CPU.
"""

from __future__ import annotations

import bisect
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import report
from benchmarks.harness import ROOT, Answer, Effort, Table, program
from benchmarks.peers.agents import node_exporter
from benchmarks.steady import NAME, SECONDS
from tests.programs import free_port, listens, running
from tests.prometheus import Prometheus
from tests.rings import remove_files_of

FRAMES: Final = (15, 1)
SCRAPES: Final = (5, 10, 15, 30)
_TARGETS: Final = ("timestamps", "none", "node_exporter")
_RECORDED: Final = ("rules", "offset")
_FULL_SECONDS: Final = 600.0
_LONGEST: Final = 4 * 30  # of the ranges
_LAG_SECONDS: Final = 45.0  # by then every frame has been scraped
_OFFSET_SECONDS: Final = 20
_STAT_SECONDS: Final = 0.05
_BUSY: Final = 'mode!~"idle|iowait"'
_CLOCK: Final = "node_time_seconds"

Errors = Sequence[float]  # in percent
Points = Sequence[tuple[float, float]]  # Unix seconds, value


@dataclass(frozen=True, slots=True)
class Pair:
    """A row of the tables: seconds from scrape to scrape, and from frame to frame."""

    scrape: int
    frame: int

    @property
    def range(self) -> int:
        """Seconds of the range of each query: four of the longer interval, as `$__rate_interval` of Grafana has it."""
        return 4 * max(self.scrape, self.frame)

    def job(self, target: str) -> str:
        return f"{target}-{self.scrape}" if target == "node_exporter" else f"{target}-{self.scrape}-{self.frame}"


PAIRS: Final = tuple(Pair(scrape, frame) for frame in FRAMES for scrape in SCRAPES)


def ask(effort: Effort) -> Answer:
    seconds = effort.seconds(_FULL_SECONDS)
    with _everything() as (server, busy):
        time.sleep(_LONGEST + 30)
        begun = time.time()
        time.sleep(seconds)
        ended = time.time()
        time.sleep(_LAG_SECONDS)
        ran = Run(server, busy, begun, ended)
        steady = [_row(pair, [ran.steady(pair, *cell) for cell in _CELLS]) for pair in PAIRS]
        cpu = [_row(pair, [ran.cpu(pair, *cell) for cell in _CPU_CELLS]) for pair in PAIRS]
        refused = [
            f"{error.replace('_', ' ')}: {ran.refused(error)}"
            for error in ("out_of_order", "duplicate_timestamp", "out_of_bounds")
        ]
    version = subprocess.run([_prometheus(), "--version"], capture_output=True, text=True, timeout=30)
    words = (version.stdout or version.stderr).split()
    answer = Answer("Rates at other intervals than the source's")
    answer.tables = [
        Table("Errors of a counter of one a second, lowest to highest, in percent:", _HEAD, steady),
        Table("Errors of the CPU time that is not idle, against /proc/stat, in percent:", _CPU_HEAD, cpu),
    ]
    answer.notes = [
        f"Prometheus {words[2].split('+')[0]}, {seconds:.0f} s, a value each second. The range of a query is four of "
        "the longer interval. In parentheses: how many of a hundred values are within 1 %, where not all are.",
        "All but the last two columns are evaluated over the past, as graphs are. In rules: evaluated at each second "
        "while the server scraped, as rules and alerts are. A frame is in the server only after the next scrape; where "
        "the newest is older than 1.1 of the mean interval between samples, `rate()` adds half of that interval and no "
        f"more. With an offset: the same with `offset {_OFFSET_SECONDS}s`.",
        "The CPU time of a query is compared over the time from its first to its last sample, since the load is not "
        "even. /proc/stat counts hundredths of a second, by processor and mode.",
        f"Samples that Prometheus refused: {', '.join(refused)}.",
    ]
    [shown, _], [read, *_] = answer.tables, answer.notes
    answer.short["http-api.md"] = "\n\n".join([*report.table_blocks([shown]), read])
    return answer


_CPU_HEAD: Final = (
    "scraped every", "frames every",
    "with timestamps: `rate`", "`irate`", "without: `rate`", "`irate`", "node_exporter: `rate`", "`irate`",
)  # fmt: skip
_HEAD: Final = (*_CPU_HEAD, "with timestamps, in rules: `rate`", "with an offset")
_CPU_CELLS: Final = tuple((target, function) for target in _TARGETS for function in ("rate", "irate"))
_CELLS: Final = (*_CPU_CELLS, *(("timestamps", function) for function in _RECORDED))

Row = tuple[str, ...]


def _row(pair: Pair, errors: Iterable[Errors]) -> Row:
    return f"{pair.scrape} s", f"{pair.frame} s", *map(_cell, errors)


def _cell(errors: Errors) -> str:
    """Lowest to highest, with a decimal; and how many of a hundred are within 1 %, unless all are."""
    if not errors:
        return "no value"
    low, high = (f"{value:+.1f}".replace("-", "−") for value in (min(errors), max(errors)))
    low, high = (one[1:] if one[1:] == "0.0" else one for one in (low, high))
    right = 100 * sum(abs(one) <= 1 for one in errors) // len(errors)
    return (low if low == high else f"{low} to {high}") + (f" ({right})" if right < 100 else "")


# ---- what is computed, and what is true -----------------------------------------------------------------------------


def _query(pair: Pair, target: str, function: str) -> str:
    """Of the counter of one a second."""
    name = _CLOCK if target == "node_exporter" else SECONDS
    offset = f" offset {_OFFSET_SECONDS}s" if function == "offset" else ""
    called = "irate" if function == "irate" else "rate"
    return f'{called}({name}{{job="{pair.job(target)}"}}[{pair.range}s]{offset})'


def _cpu_query(pair: Pair, target: str, function: str) -> str:
    """Of all processors, and of the modes that are not idle."""
    return f'sum({function}(node_cpu_seconds_total{{job="{pair.job(target)}",{_BUSY}}}[{pair.range}s]))'


def _rules() -> str:
    """Rates of our page with timestamps, as recording rules that are evaluated each second."""
    lines = ["groups:", "- name: rates", "  interval: 1s", "  rules:"]
    for pair in PAIRS:
        for function in _RECORDED:
            lines += [f"  - record: {_record(pair, function)}", f"    expr: {_query(pair, 'timestamps', function)}"]
    return "\n".join(lines) + "\n"


def _record(pair: Pair, function: str) -> str:
    return f"recorded:{function}_{pair.scrape}_{pair.frame}"


@dataclass(frozen=True, slots=True)
class Run:
    """What a server holds of the time from ``begun`` to ``ended``, in Unix seconds."""

    server: Prometheus
    busy: Busy
    begun: float
    ended: float

    def steady(self, pair: Pair, target: str, function: str) -> Errors:
        if function in _RECORDED:  # at the times of the evaluations, which are not those of a range query's steps
            points = self._held(_record(pair, function), self.ended - self.begun)
        else:
            points = self._evaluated(_query(pair, target, function))
        return [100 * (value - 1) for _, value in points]

    def cpu(self, pair: Pair, target: str, function: str) -> Errors:
        sampled = f'node_cpu_seconds_total{{job="{pair.job(target)}",cpu="0",mode="user"}}'
        times = [at for at, _ in self._held(sampled, self.ended - self.begun + _LONGEST)]
        found = []
        for at, value in self._evaluated(_cpu_query(pair, target, function)):
            last = bisect.bisect_right(times, at) - 1
            first = last - 1 if function == "irate" else bisect.bisect_left(times, at - pair.range)
            found.append(100 * (value / self.busy.rate(times[first], times[last]) - 1))
        return found

    def refused(self, error: str) -> str:
        name = f"prometheus_target_scrapes_sample_{error}_total "
        [line] = [one for one in self.server.own_metrics().splitlines() if one.startswith(name)]
        return line.removeprefix(name)

    def _evaluated(self, query: str) -> Points:
        """At each second."""
        begin, end = f"{self.begun}", f"{self.ended}"
        return _points(self.server.api("query_range", query=query, start=begin, end=end, step="1"))

    def _held(self, selector: str, seconds: float) -> Points:
        """The samples of a series until the end, as they are in the server."""
        return _points(self.server.api("query", query=f"{selector}[{round(seconds)}s]", time=f"{self.ended}"))


def _points(found: Any) -> Points:
    return [(float(at), float(value)) for series in found["result"] for at, value in series["values"]]


class Busy(threading.Thread):
    """Seconds that all processors were busy, as /proc/stat has it, read 20 times a second until :meth:`stop`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self._over = threading.Event()
        self._times: list[float] = []
        self._seconds: list[float] = []
        self._ticks = os.sysconf("SC_CLK_TCK")

    def run(self) -> None:
        while not self._over.wait(_STAT_SECONDS):
            with Path("/proc/stat").open() as file:
                self._times.append(time.time())
                # user nice system idle iowait irq softirq steal; what guests take is in user and nice
                modes = [int(word) for word in file.readline().split()[1:9]]
            self._seconds.append((sum(modes) - modes[3] - modes[4]) / self._ticks)

    def rate(self, begin: float, end: float) -> float:
        """Seconds a second, between two times."""
        return (self._at(end) - self._at(begin)) / (end - begin)

    def _at(self, when: float) -> float:
        """Between two readings, as if it had grown evenly."""
        i = min(max(bisect.bisect_right(self._times, when), 1), len(self._seconds) - 1)
        (t0, t1), (v0, v1) = self._times[i - 1 : i + 1], self._seconds[i - 1 : i + 1]
        return v0 + (v1 - v0) * (when - t0) / (t1 - t0)

    def stop(self) -> None:
        self._over.set()
        self.join()


# ---- who runs -------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _everything() -> Iterator[tuple[Prometheus, Busy]]:
    """A Prometheus that scrapes all targets at all intervals, and a load of half a processor. Raises Missing."""
    directory = Path(tempfile.mkdtemp(prefix="fogmetrics-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        ports = {frame: stack.enter_context(_daemon(directory, frame)) for frame in FRAMES}
        theirs = stack.enter_context(node_exporter(directory))
        theirs.program.wait_until(theirs.answers, 20, "node_exporter")
        (directory / "rules.yml").write_text(_rules())
        config, port, log_path = directory / "prometheus.yml", free_port(), directory / "prometheus.log"
        config.write_text(_config(directory, ports, theirs.url.removesuffix("/metrics").removeprefix("http://")))
        stack.enter_context(running([sys.executable, "-c", _LOAD], directory / "load.log"))
        busy = Busy()
        busy.start()
        stack.callback(busy.stop)
        command = [
            _prometheus(), f"--config.file={config}", f"--storage.tsdb.path={directory / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn",
        ]  # fmt: skip
        server = stack.enter_context(running(command, log_path))
        found = Prometheus(f"http://127.0.0.1:{port}", log_path)
        server.wait_until(found.is_there, 60, "Prometheus to be ready")
        yield found, busy


_LOAD: Final = """
import time
while True:
    begun = time.monotonic()
    while time.monotonic() - begun < 0.02:
        pass
    time.sleep(0.02)
"""


def _prometheus() -> str:
    return program("prometheus", "apt-get install prometheus")


@contextlib.contextmanager
def _daemon(directory: Path, frame: int) -> Iterator[int]:
    """The port of an exporter whose sources ``host`` and ``steady`` are collected at that interval."""
    namespace, port = f"bench-{os.getpid()}-{frame}", free_port()
    config = directory / f"fogmetrics-{frame}.toml"
    config.write_text(
        f'[shm]\nnamespace = "{namespace}"\n[collector]\ninterval_seconds = "{frame}s"\n[exporter]\nport = {port}\n'
        f'[source.host]\nenabled = true\n[source.{NAME}]\nclass = "benchmarks.steady:SteadySource"\n'
    )
    environ = {"FOGMETRICS_NAMESPACE": namespace}  # whatever is set around us
    with contextlib.ExitStack() as stack:
        stack.callback(remove_files_of, namespace)
        for module, *arguments in (("collector", "host"), ("collector", NAME), ("exporter",)):
            command = [sys.executable, "-m", module, *arguments, "--config", str(config)]
            log_path = directory / f"{'-'.join((module, *arguments))}-{frame}.log"
            started = stack.enter_context(running(command, log_path, env=environ, cwd=ROOT))
        started.wait_until(lambda: listens(port), 20, "the exporter listening")
        yield port


def _config(directory: Path, ports: dict[int, int], theirs: str) -> str:
    lines = ["rule_files:", f"- {directory / 'rules.yml'}", "scrape_configs:"]

    def job(name: str, scrape: int, target: str, parameters: dict[str, Any]) -> None:
        lines.extend(
            [
                f"- job_name: {name}",
                f"  scrape_interval: {scrape}s",
                f"  scrape_timeout: {min(scrape, 10)}s",
                f"  params: {parameters}",
                f"  static_configs: [{{targets: ['{target}']}}]",
            ]
        )

    ours = ["node_cpu_seconds_total", SECONDS]
    for pair in PAIRS:
        address = f"127.0.0.1:{ports[pair.frame]}"
        job(pair.job("timestamps"), pair.scrape, address, {"name[]": ours})
        job(pair.job("none"), pair.scrape, address, {"name[]": ours, "timestamps": ["none"]})
    for scrape in SCRAPES:
        job(Pair(scrape, 0).job("node_exporter"), scrape, theirs, {"collect[]": ["cpu", "time"]})
    return "\n".join(lines) + "\n"
