"""P2, P3: cost of a page of the latest samples, with many series that all changed, and of an idle host.

All figures are CPU of the process that answers one client over loopback, without compression.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import numpy as np

from benchmarks.harness import Answer, Effort, Measured, Missing, Target, cpu_seconds_each, in_turns
from benchmarks.peers.agents import PACKAGED, Agent, collectd, node_exporter
from benchmarks.peers.bare import bare
from benchmarks.peers.client_python import client_python
from benchmarks.served import INTERVAL_SECONDS, LARGEST, Rings, Scrapers, scraping
from benchmarks.supervised import supervised
from exporter.exposition.format import numbers
from tests.programs import wait_until

_SERIES = 10_000
_CAPACITY = 64  # enough: of these rings nobody asks for a window
_PAGE = f"`/metrics`, {_SERIES:,} series"
_CLIENT, _JOIN = "`generate_latest` of the same series", "`b''.join` of the same bytes"
_DIGITS, _SEND = "the digits of as many numbers", f"a bare Starlette answer of {_SERIES:,} series"
_DAEMON = "the default daemon"
_BARE, _LOOP = "a bare Starlette answer of the same page", "the same page from the event loop alone"
_COLLECTD, _LEAST, _NODE = "collectd as Debian sets it up", "collectd with the least", "node_exporter"
_START_SECONDS = 60
_FEWER = 50  # of node_exporter, which reads the host for each


def ask(effort: Effort) -> Answer:
    answer = Answer("A page of the latest samples")
    _all_changed(effort, answer)
    _none_changed(effort, answer)
    answer.notes += [
        "All figures are CPU, user and system, of the process that answers. The client, which is not counted, keeps "
        "its connection, and asks for no compression.",
        f"The {_SERIES:,} series are of ten sources. Before each request every source appends a frame of new values.",
        "`generate_latest` is called alone, in a process of its own, without a server around it. What is joined is the "
        "page that the exporter sent, cut before and after each number.",
    ]
    return answer


_BARE_KINDS: Mapping[str, Literal["starlette", "loop"]] = {_BARE: "starlette", _LOOP: "loop"}
_PEERS: Mapping[str, Callable[[Path], AbstractContextManager[Agent]]] = {
    _COLLECTD: lambda directory: collectd(directory, INTERVAL_SECONDS, PACKAGED),
    _LEAST: lambda directory: collectd(directory, INTERVAL_SECONDS),
    _NODE: node_exporter,
}


# ---- P2 ------------------------------------------------------------------------------------------------------


def _all_changed(effort: Effort, answer: Answer) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="fogmetrics-") as directory,
        Rings(_SERIES, _CAPACITY) as rings,
        scraping(rings.namespace) as scrapers,
        client_python("page", _SERIES, Path(directory)) as peer,
        contextlib.ExitStack() as stack,
    ):
        rings.append()
        page = scrapers.get("/metrics")
        program, port = stack.enter_context(bare("starlette", Path(directory), page))
        sender = _scrapers(stack, port, program.pid)
        pieces = _pieces(page)
        values = np.random.default_rng(1).uniform(0, LARGEST, _SERIES).round(3)
        found = in_turns(
            {
                _PAGE: lambda: scrapers.cost("/metrics", effort.many(40), rings.append).cpu_seconds,
                _CLIENT: peer,
                _JOIN: lambda: cpu_seconds_each(lambda: b"".join(pieces), effort.many(200)),
                _DIGITS: lambda: cpu_seconds_each(lambda: numbers(values), effort.many(200)),
                _SEND: lambda: sender.cost("/metrics", effort.many(40)).cpu_seconds,
            },
            effort.turns(11),
        )
    answer.measured += [Measured(what, "ms", [one * 1e3 for one in turns]) for what, turns in found.items()]
    whole, joined, sent = (answer.median(what) for what in (_PAGE, _JOIN, _SEND))
    answer.targets.append(
        Target("P2", f"{_CLIENT}, against the page over HTTP", answer.median(_CLIENT) / whole, "least", 20)
    )
    answer.notes.append(
        f"Of the page of {_SERIES:,} series the answer itself (HTTP, and the kernel's copy to a client on the same "
        f"host) takes {sent / joined:.1f} times the join, the digits {answer.median(_DIGITS) / joined:.1f} times."
    )


def _pieces(page: bytes) -> list[bytes]:
    """Split a page into its pieces: each line up to its number, and the number."""
    return re.split(rb"(?<=} )|(?=\n)", page)


# ---- P3 ------------------------------------------------------------------------------------------------------


def _none_changed(effort: Effort, answer: Answer) -> None:
    """Measure the daemon and agents at their default intervals, each scraped far more often than it collects."""
    with tempfile.TemporaryDirectory(prefix="fogmetrics-") as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        found = stack.enter_context(supervised(INTERVAL_SECONDS))
        answer.missing += found.missing
        daemon = stack.enter_context(found.daemon)
        daemon.wait_until_collected()
        servers = {_DAEMON: _scrapers(stack, daemon.port, daemon.pid("exporter"))}
        page = servers[_DAEMON].get("/metrics")
        for what, kind in _BARE_KINDS.items():
            program, port = stack.enter_context(bare(kind, directory, page))
            servers[what] = _scrapers(stack, port, program.pid)
        for peer, agent_of in _PEERS.items():
            try:
                agent = stack.enter_context(agent_of(Path(stack.enter_context(tempfile.TemporaryDirectory()))))
            except Missing as one:
                answer.missing.append(one)
                continue
            wait_until(agent.answers, _START_SECONDS, f"a page of {peer}")
            servers[peer] = _scrapers(stack, urlsplit(agent.url).port or 80, agent.pid)
        names = {what: f"1,000 scrapes: {what}, {_series(one.get('/metrics'))} series" for what, one in servers.items()}
        turns = in_turns(
            {
                names[what]: _thousand(scrapers, effort.many(_FEWER if what == _NODE else 1000))
                for what, scrapers in servers.items()
            },
            effort.turns(9),
        )
    answer.measured += [Measured(what, "ms", [one * 1e3 for one in each]) for what, each in turns.items()]
    ours = answer.median(names[_DAEMON])
    if _NODE in names:
        ratio = ours / answer.median(names[_NODE])
        answer.targets.append(Target("P3", f"scrapes of the default daemon, against {_NODE}", ratio, "most", 0.1))
    starlette, loop = (ours / answer.median(names[what]) for what in _BARE_KINDS)
    answer.notes.append(
        "The bare answer is what Starlette on uvicorn, which the exporter is made of, takes for such a page by itself: "
        f"a scrape of the daemon costs {starlette:.1f} times as much. The event loop alone, which parses "
        f"nothing and writes ready bytes, shows the kernel's part: a scrape costs {loop:.1f} times that."
    )


def _scrapers(stack: contextlib.ExitStack, port: int, pid: int) -> Scrapers:
    return stack.enter_context(contextlib.closing(Scrapers(port, pid)))


def _thousand(scrapers: Scrapers, requests: int) -> Callable[[], float]:
    return lambda: 1000 * scrapers.cost("/metrics", requests).cpu_seconds


def _series(page: bytes) -> int:
    return sum(not line.startswith(b"#") for line in page.splitlines())
