"""Agents that monitor a host, each in its lightest configuration: node_exporter, collectd, Netdata, Glances.

Each context manager starts an agent on a free port of loopback, with its files in ``directory``, and stops it by its
pid. It does not wait: :meth:`Agent.answers` returns whether the first page is there. Raises Missing if the agent is not
installed.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.harness import Missing, program
from tests import http_client
from tests.programs import Program, free_port, running

_COLLECTD = """\
BaseDir "{directory}"
PIDFile "{directory}/collectd.pid"
Interval {interval}
LoadPlugin cpu
LoadPlugin df
LoadPlugin interface
LoadPlugin load
LoadPlugin memory
LoadPlugin uptime
{more}LoadPlugin write_prometheus
<Plugin write_prometheus>
  Host "127.0.0.1"
  Port "{port}"
</Plugin>
"""
# What Debian's package loads beside them, where it comes with no other way to write.
PACKAGED = ("battery", "disk", "entropy", "irq", "processes", "swap", "users")
# No machine learning, no alarms, no files on disk but its own settings: less of it than as it comes.
_NETDATA = """\
[global]
    run as user = root
    hostname = bench
[db]
    mode = ram
    update every = {interval}
    retention = 3600
[directories]
    config = {directory}
    cache = {directory}/cache
    lib = {directory}/lib
    log = {directory}/log
    home = {directory}
[logs]
    access = none
[web]
    bind to = 127.0.0.1:{port}
[registry]
    enabled = no
[health]
    enabled = no
[ml]
    enabled = no
"""
_GLANCES = """\
[prometheus]
host=127.0.0.1
port={port}
prefix=glances
labels=src:glances
"""


@dataclass(frozen=True, slots=True)
class Agent:
    """A running agent. ``holds``: text that its complete page contains."""

    program: Program
    url: str
    holds: bytes

    @property
    def pid(self) -> int:
        return self.program.pid

    def answers(self) -> bool:
        try:
            return self.holds in http_client.get(self.url, timeout=5).content
        except httpx.TransportError:
            return False


@contextlib.contextmanager
def node_exporter(directory: Path, interval_seconds: int = 15, flags: Sequence[str] = ()) -> Iterator[Agent]:
    """Start node_exporter, which reads the host when it is scraped, and has no interval."""
    port = free_port()
    command = [
        program("prometheus-node-exporter", "apt-get install prometheus-node-exporter"),
        f"--web.listen-address=127.0.0.1:{port}",
        *flags,
    ]
    with running(command, directory / "node_exporter.log") as found:
        yield Agent(found, f"http://127.0.0.1:{port}/metrics", b"\nnode_cpu_seconds_total{")


@contextlib.contextmanager
def collectd(directory: Path, interval_seconds: int = 15, plugins: Sequence[str] = ()) -> Iterator[Agent]:
    """Start collectd. ``plugins``: plugins in addition to those for the metrics of fogmetrics."""
    port, how = free_port(), "apt-get install collectd-core libprotobuf-c1 libmicrohttpd12"
    path = directory / "collectd.conf"
    more = "".join(f"LoadPlugin {plugin}\n" for plugin in plugins)
    path.write_text(_COLLECTD.format(directory=directory, interval=interval_seconds, port=port, more=more))
    with running([program("collectd", how), "-f", "-C", path], directory / "collectd.log") as found:
        yield Agent(found, f"http://127.0.0.1:{port}/metrics", b"\ncollectd_memory{")


@contextlib.contextmanager
def netdata(directory: Path, interval_seconds: int = 15) -> Iterator[Agent]:
    port = free_port()
    for name in ("cache", "lib", "log"):
        (directory / name).mkdir(exist_ok=True)
    path = directory / "netdata.conf"
    path.write_text(_NETDATA.format(directory=directory, interval=interval_seconds, port=port))
    command: list[str | Path] = [program("netdata", "apt-get install netdata-core"), "-D", "-c", path]
    with running(command, directory / "netdata.log") as found:
        page = f"http://127.0.0.1:{port}/api/v1/allmetrics?format=prometheus"
        yield Agent(found, page, b"\nnetdata_system_cpu_percentage_average{")


@contextlib.contextmanager
def glances(directory: Path, interval_seconds: int = 15) -> Iterator[Agent]:
    """Start Glances without a screen, exporting to Prometheus."""
    beside = Path(sys.executable).parent / "glances"
    if not beside.is_file():
        raise Missing("glances", "pip install 'fogmetrics[bench]'")
    port = free_port()
    path = directory / "glances.conf"
    path.write_text(_GLANCES.format(port=port))
    command: list[str | Path] = [
        beside, "-q", "-C", path, "--export", "prometheus", "-t", str(interval_seconds), "--disable-check-update",
    ]  # fmt: skip
    with running(command, directory / "glances.log", env={"TMPDIR": str(directory)}) as found:
        yield Agent(found, f"http://127.0.0.1:{port}/metrics", b"\nglances_cpu_total")


AGENTS: Mapping[str, Callable[[Path, int], contextlib.AbstractContextManager[Agent]]] = {
    "node_exporter": node_exporter,
    "collectd": collectd,
    "Netdata": netdata,
    "Glances": glances,
}
