"""The daemon as a user runs it: under the real supervisord, with targets for all its 15 metrics.

Betanet is the stand-in of the tests; deployments come from a real HAProxy, if it is installed. Neither is measured.
Without HAProxy, deployments have only the samples that supervisord provides.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.harness import Missing, program
from shm.metric import Metric
from shm.ring.reader import RingReader
from tests.daemon import PROGRAMS, SOURCES, Daemon
from tests.haproxy import HaproxyBefore
from tests.rings import newest, remove_files_of
from tests.stand_ins.betanet import BetanetStandIn, moving

_HAPROXY = "apt-get install haproxy"


@dataclass(slots=True)
class Supervised:
    """A daemon, started or not. ``extra``: sources in addition to the four built-in ones."""

    daemon: Daemon
    extra: tuple[str, ...]
    missing: list[Missing]

    def pids(self) -> dict[str, int]:
        """The pid of each of its processes, by the name of its program; supervisord is the last."""
        names = [*PROGRAMS[:-1], *self.extra, PROGRAMS[-1]]
        found = {name: self.daemon.pid(name) for name in names}
        return found | {"supervisord": self.daemon.supervisord.pid}

    def processes(self) -> dict[str, psutil.Process]:
        return {name: psutil.Process(pid) for name, pid in self.pids().items()}

    def readers(self) -> Iterator[tuple[str, RingReader]]:
        """A reader of each source's ring, closed with the next one."""
        for source in (*SOURCES, *self.extra):
            with RingReader(self.daemon.namespace, source) as reader:
                yield source, reader

    def total(self, metric: Metric) -> int:
        """The sum of one of the collectors' own counters over all sources."""
        values = (newest(self.daemon.namespace, source)[metric.name, source] for source in (*SOURCES, *self.extra))
        return round(sum(value or 0.0 for [value] in values))


@contextlib.contextmanager
def supervised(
    interval_seconds: float = 15.0, *, sources: Mapping[str, str] | None = None, capacity: int = 5760
) -> Iterator[Supervised]:
    """A daemon that is not yet started: ``with found.daemon:`` does.

    ``sources``: by name, the TOML of each one's table; each has a program of its own.
    """
    extra, missing = dict(sources or {}), []
    begun = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="fogmetrics-"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        betanet = stack.enter_context(BetanetStandIn(answers=lambda: moving(time.monotonic() - begun)))
        text = f'[source.betanet]\nurl = "{betanet.url}"\n'
        try:
            program("haproxy", _HAPROXY)
        except Missing as one:
            missing.append(one)
        else:
            haproxy = stack.enter_context(HaproxyBefore(directory))
            text += (
                f'[source.deployment]\nproviders = ["supervisord", "haproxy"]\nhaproxy_url = "{haproxy.stats_url}"\n'
            )
        for name, table in extra.items():
            text += f"[source.{name}]\n{table}\n"
        # Modules are compiled once, as in a made environment, even where this process is told to compile each time.
        compiled = {"PYTHONDONTWRITEBYTECODE": ""}
        daemon = Daemon(directory, interval_seconds=interval_seconds, toml=text, environ=compiled, capacity=capacity)
        stack.callback(remove_files_of, daemon.namespace)
        yield Supervised(daemon, tuple(extra), missing)
