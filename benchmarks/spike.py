"""``python -m benchmarks.spike``: which pages show a burst of one second between two scrapes.

The source ``node`` is sampled ten times a second. A client scrapes the exporter's two pages and node_exporter at the
same times. Between two scrapes there is a burst of one second that measures itself: a process on every processor
computes, and one sends 100 MiB over loopback, if the host is fast enough. ``/metrics`` has the last sample, and shows
the burst only if the scrape falls into it. node_exporter's counters include the burst, spread over the time between
the scrapes. ``max`` on ``/metrics/aggregated`` over the last interval shows the burst.

The scrape interval is 5 s, so that a run takes half a minute; at 15 s (``--interval 15``) the burst is a third as high
in node_exporter's rates. All programs are stopped by their pids.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import multiprocessing
import os
import re
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from benchmarks import report
from benchmarks.client import Client
from benchmarks.harness import ROOT, Missing
from benchmarks.peers.agents import node_exporter
from tests.programs import free_port, listens, running, wait_until
from tests.rings import remove_files_of

_INTERVALS: Final = 3  # the burst is in the second of them
_BURST_IN: Final = 1
_MOST_SECONDS: Final = 50.0
_BURST_SECONDS: Final = 1.0
_WITH_LOOPBACK: Final = ("--collector.netdev.device-exclude=^$",)  # Debian's leaves it out
_CHUNK: Final = bytes(1 << 20)
_CHUNKS_A_SECOND: Final = 100
MIB: Final = 1 << 20

# sample name, labels, value: of any page
_SAMPLE: Final = re.compile(rb"^(\w+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
_IDLE: Final = (b'mode="idle"', b'mode="iowait"')  # waiting for I/O is idle, as in ours
_NETWORK: Final = (b"node_network_receive_bytes_total", b"node_network_transmit_bytes_total")


@dataclass(frozen=True, slots=True)
class Burst:
    """The burst's own measurement: its share of all processors' time in percent, bytes per second through loopback
    (counted twice, as sent and received), and its duration.
    """

    cpu: float
    network: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Said:
    """One metric on all pages at the end of one interval."""

    latest: float
    node_exporter: float
    max: float
    p99: float
    avg: float


Row = dict[str, Said]  # by metric


def _busy(seconds: float, told: Connection) -> None:
    begun, cpu = time.monotonic(), time.process_time()
    while time.monotonic() - begun < seconds:
        pass
    told.send((time.process_time() - cpu, 0, time.monotonic() - begun))


def _sending(seconds: float, told: Connection) -> None:
    """Send over loopback to a thread of this process, evenly."""
    sent = 0
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as out:
        heard, _ = server.accept()
        taker = threading.Thread(target=_take, args=(heard,), daemon=True)
        taker.start()
        begun, cpu = time.monotonic(), time.process_time()
        while (now := time.monotonic() - begun) < seconds:
            if sent < now * _CHUNKS_A_SECOND * len(_CHUNK):
                out.sendall(_CHUNK)
                sent += len(_CHUNK)
            else:
                time.sleep(0.002)
        told.send((time.process_time() - cpu, sent, time.monotonic() - begun))


def _take(heard: socket.socket) -> None:
    while heard.recv(1 << 20):
        pass


def burst(seconds: float) -> Burst:
    """Keep every processor and loopback busy for that long."""
    cpus = os.cpu_count() or 1
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(cpus + 1)]
    targets = [_sending, *[_busy] * cpus]
    processes = [
        context.Process(target=target, args=(seconds, told), daemon=True)
        for target, (_, told) in zip(targets, pipes, strict=True)
    ]
    for process in processes:
        process.start()
    found: list[tuple[float, int, float]] = []
    for (heard, _), process in zip(pipes, processes, strict=True):
        if not heard.poll(10 * seconds):
            process.kill()
            raise RuntimeError("a process of the burst does not end")
        found.append(heard.recv())
        process.join(10)
    lasted = max(wall for _, _, wall in found)
    return Burst(
        100 * sum(cpu for cpu, _, _ in found) / (cpus * lasted), sum(2 * sent / wall for _, sent, wall in found), lasted
    )


class Pages:
    """The three pages, requested at the same time."""

    def __init__(self, ours: Client, theirs: Client, window_seconds: float) -> None:
        self._ours, self._theirs = ours, theirs
        self._window = f"/metrics/aggregated?window={window_seconds:g}s&stat=avg&stat=max&stat=p99"
        self._before = self._counters()

    def row(self) -> Row:
        latest = {name: float(value) for name, _, value in _SAMPLE.findall(self._ours.get("/metrics"))}
        over = {
            (name, stat): float(value)
            for name, labels, value in _SAMPLE.findall(self._ours.get(self._window))
            for stat in re.findall(rb'stat="(\w+)"', labels)
        }
        before, self._before = self._before, self._counters()
        at, idle, every, network = (after - one for one, after in zip(before, self._before, strict=True))
        theirs = {b"node_cpu_usage": 100 * (1 - idle / every), b"node_network_io": network / at}
        return {
            name.decode(): Said(latest[name], rate, over[name, b"max"], over[name, b"p99"], over[name, b"avg"])
            for name, rate in theirs.items()
        }

    def _counters(self) -> tuple[float, float, float, float]:
        """Read node_exporter: (time, idle seconds of the processors, all their seconds, bytes of all interfaces)."""
        found = _SAMPLE.findall(self._theirs.get("/metrics"))
        cpu = [(labels, float(value)) for name, labels, value in found if name == b"node_cpu_seconds_total"]
        idle = sum(value for labels, value in cpu if any(mode in labels for mode in _IDLE))
        network = sum(float(value) for name, _, value in found if name in _NETWORK)
        return time.monotonic(), idle, sum(value for _, value in cpu), network


@contextlib.contextmanager
def both(sampling_seconds: float) -> Iterator[tuple[Client, Client]]:
    """Run the collector and both exporters; yields clients of our exporter and of node_exporter."""
    directory = Path(tempfile.mkdtemp(prefix="fogmetrics-"))
    namespace, port = f"spike-{os.getpid()}", free_port()
    config = directory / "fogmetrics.toml"
    config.write_text(
        f'[shm]\nnamespace = "{namespace}"\n[exporter]\nport = {port}\n'
        f"[source.node]\ninterval_seconds = {sampling_seconds}\nnetwork_exclude = []\n"
    )
    environ = {"FOGMETRICS_NAMESPACE": namespace}  # whatever is set around us
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.callback(remove_files_of, namespace)
        for module, arguments in (("collector", ["node"]), ("exporter", [])):
            command = [sys.executable, "-m", module, *arguments, "--config", str(config)]
            program = stack.enter_context(running(command, directory / f"{module}.log", env=environ, cwd=ROOT))
        program.wait_until(lambda: listens(port), 20, "the exporter listening")
        theirs = stack.enter_context(node_exporter(directory, flags=_WITH_LOOPBACK))
        wait_until(theirs.answers, 20, "node_exporter")
        ours = stack.enter_context(Client(port))
        wait_until(lambda: b"node_cpu_usage{" in ours.get("/metrics"), 20, "a frame of the node")
        yield ours, stack.enter_context(Client(int(theirs.url.split(":")[2].split("/")[0])))


def measure(interval_seconds: float, sampling_seconds: float) -> tuple[Burst, list[Row]]:
    """Run the burst; return its measurement, and the metrics at the end of each interval."""
    with both(sampling_seconds) as (ours, theirs):
        time.sleep(2 * sampling_seconds)
        pages = Pages(ours, theirs, interval_seconds)
        due = time.monotonic()
        rows, found = [], None
        for number in range(_INTERVALS):
            if number == _BURST_IN:
                time.sleep((interval_seconds - _BURST_SECONDS) / 2)
                found = burst(_BURST_SECONDS)
            due += interval_seconds
            time.sleep(max(due - time.monotonic(), 0))
            rows.append(pages.row())
    assert found is not None
    return found, rows


_SHOWN: Final = {
    "node_cpu_usage": ("CPU of all processors, in percent", 1.0),
    "node_network_io": ("bytes of all interfaces, in MiB/s", float(MIB)),
}


def table(found: Burst, rows: list[Row]) -> str:
    true = {"node_cpu_usage": found.cpu, "node_network_io": found.network}
    parts = []
    for name, (what, unit) in _SHOWN.items():
        head = (what, "`/metrics`", "node_exporter, rate since the scrape before", "`max`", "`p99`", "`avg`")
        lines: list[tuple[str, ...]] = []
        for scrape, row in zip(_NAMES, rows, strict=True):
            lines.append((scrape, *(f"{value / unit:.1f}" for value in dataclasses.astuple(row[name]))))
        measured = f"what the burst measured, for {found.seconds:.2f} s"
        lines.append((measured, f"{true[name] / unit:.1f}", "", "", "", ""))
        parts.append(report.rows(head, lines))
    return "\n\n".join(parts)


_NAMES: Final = ("scrape before the burst", "scrape behind it", "the next scrape")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spike", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--interval", type=float, default=5.0, help="seconds from scrape to scrape; 5")
    parser.add_argument("--sampling", type=float, default=0.1, help="seconds from sample to sample, 0.1 to 1; 0.1")
    options = parser.parse_args(arguments)
    if not 4 <= options.interval <= _MOST_SECONDS / _INTERVALS:
        parser.error(f"--interval is {options.interval:g}; give 4 to {_MOST_SECONDS / _INTERVALS:g} seconds")
    if not 0.1 <= options.sampling <= 1:
        parser.error(f"--sampling is {options.sampling:g}; give 0.1 to 1 second")
    try:
        found, rows = measure(options.interval, options.sampling)
    except Missing as error:
        print(error, file=sys.stderr)
        return 1
    on = report.machine()
    print(
        f"{on['cpu']}, {on['cpus']} CPUs; scraped every {options.interval:g} s, sampled every {options.sampling:g} s; "
        f"max, p99 and avg are of /metrics/aggregated?window={options.interval:g}s.\n"
    )
    print(table(found, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
