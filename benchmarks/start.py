"""P10: time from the start of ``supervisord`` to the first complete page, compared with node_exporter and Netdata.

A page is complete if every source is up and every metric of the table has a sample, except the two rates of
deployments: a rate needs two readings of HAProxy.
"""

from __future__ import annotations

import contextlib
import http.client
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from benchmarks.client import Client
from benchmarks.harness import Answer, Effort, Measured, Missing, Target, in_turns
from benchmarks.peers.agents import Agent, netdata, node_exporter
from benchmarks.supervised import supervised
from collector.metrics import ALL, UP
from tests.daemon import SOURCES

_TURNS: Final = 5
_LOOK_SECONDS: Final = 0.02
_WAIT_SECONDS: Final = 30.0
_OURS: Final = "fogmetrics: supervisord to the first complete /metrics"
_FIRST: Final = "fogmetrics: supervisord to the first answer of /metrics"
_NEED_TWO_READINGS: Final = {"deployment_request_rate", "deployment_error_rate"}
_OF_HAPROXY: Final = {"deployment_latency"}  # supervisord knows nothing of it


def ask(effort: Effort) -> Answer:
    answer = Answer("Start")
    firsts: list[float] = []
    wanted = {metric.name for metric in ALL} - _NEED_TWO_READINGS

    def ours() -> float:
        with supervised() as found:
            if found.missing:
                answer.missing[:] = found.missing
                wanted.difference_update(_OF_HAPROXY)
            begun = time.monotonic()
            with found.daemon as daemon:
                _until(begun, lambda: bool(_page(daemon.port)), "an answer")
                firsts.append(time.monotonic() - begun)
                return _until(begun, lambda: _complete(_page(daemon.port), wanted), "a complete page")

    jobs: dict[str, Callable[[], float]] = {_OURS: ours}
    for name, agent in (("node_exporter", node_exporter), ("Netdata", netdata)):

        def peer(agent: Callable[[Path, int], contextlib.AbstractContextManager[Agent]] = agent) -> float:
            with _directory() as directory:
                begun = time.monotonic()
                with agent(directory, 1) as started:
                    return _until(begun, started.answers, "its page")

        try:
            peer()
        except Missing as one:
            answer.missing.append(one)
        else:
            jobs[f"{name}: its start to its first page with CPU times"] = peer
    turns = in_turns(jobs, effort.turns(_TURNS))
    answer.measured = [Measured(what, "s", seconds) for what, seconds in turns.items()]
    answer.measured.insert(1, Measured(_FIRST, "s", firsts[1:]))
    answer.targets = [
        Target(
            "P10", "from supervisord's start to the first complete `/metrics`", answer.median(_OURS), "most", 1.5, "s"
        )
    ]
    answer.notes = [
        f"Complete: `{UP.name}` is 1 of {', '.join(SOURCES)}, and {len(wanted)} of the {len(ALL)} metrics are there. "
        "A rate of a deployment is the difference of two readings of HAProxy, so it comes with the second frame.",
        "Each start is a new daemon in an environment that is made already, its rings empty; the page is asked for "
        f"every {1000 * _LOOK_SECONDS:.0f} ms. Netdata collects every second here, as it does by default.",
    ]
    return answer


def _until(begun: float, holds: Callable[[], bool], what: str) -> float:
    """Seconds from ``begun`` until the condition holds."""
    while not holds():
        if time.monotonic() - begun > _WAIT_SECONDS:
            raise RuntimeError(f"waited {_WAIT_SECONDS:g} s in vain for {what}")
        time.sleep(_LOOK_SECONDS)
    return time.monotonic() - begun


def _page(port: int) -> bytes:
    """Request /metrics; empty if there is no answer yet. Takes little CPU, because the programs under test need it."""
    with Client(port) as client, contextlib.suppress(OSError, http.client.HTTPException, AssertionError):
        return client.get("/metrics")
    return b""


def _complete(page: bytes, wanted: set[str]) -> bool:
    lines = page.decode().splitlines()
    up = {f'{UP.name}{{source="{source}"}} 1.0' for source in SOURCES}
    names = {line.partition("{")[0].partition(" ")[0] for line in lines if not line.startswith("#")}
    known = {name.removesuffix(ending) for name in names for ending in ("", "_total", "_bucket")}
    return up <= set(lines) and wanted <= known


@contextlib.contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="fogmetrics-", ignore_cleanup_errors=True) as name:
        yield Path(name)
