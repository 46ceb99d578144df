"""The whole daemon under faults: its processes are killed, stopped and continued at random, and no scrape is wrong.

The repository's own supervisord.conf, and a source of a user's own beside the four, run under the real supervisord;
:mod:`tests.siege.daemon.faults` sends SIGKILL, SIGSTOP and SIGCONT to collectors, exporter and supervisord. A real
Prometheus scrapes, and so does this check, which reads the rings beside: see :mod:`tests.siege.daemon.truth` for what is
known of them, :mod:`tests.siege.daemon.scrapes` for what an answer must say, :mod:`tests.siege.daemon.aftermath` for what must
hold in the end: no hole in any history, no gap that no fault explains, every program RUNNING.

Three durations: ``make promises`` has some 20 seconds of faults; two minutes of them are ``python -m tests.siege
daemon --scale 6``; the long form has half an hour.
"""

from __future__ import annotations

import itertools
import os
import sys
import tempfile
import time
import xmlrpc.client
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import httpx

from shm.files import DIRECTORY
from tests.daemon import PROGRAMS, ROOT, SOURCES, STATES, Daemon
from tests.haproxy import HaproxyBefore
from tests.programs import wait_until
from tests.prometheus import Prometheus, scraping
from tests.siege.daemon import aftermath, proof
from tests.siege.daemon.faults import SUPERVISORD, Faults
from tests.siege.daemon.scrapes import Scrapes
from tests.siege.daemon.truth import Truth
from tests.siege.harness import Counts, Effort, Mutant, Violation, require
from tests.stand_ins.betanet import BetanetStandIn, moving

_ALL_SOURCES = (*SOURCES, proof.NAME)
_ALL = (*PROGRAMS, proof.NAME)
_INTERVAL_SECONDS = 0.5
_PAUSE_SECONDS = 0.1  # between two scrapes
_RECOVERY_SECONDS = 60.0
_TOML = """\
[source.betanet]
url = "{betanet}"
[source.deployment]
providers = ["supervisord", "haproxy"]
haproxy_url = "{haproxy}"
[source.proof]
class = "tests.siege.daemon.proof:ProofSource"
"""


def check(effort: Effort) -> Counts:
    counts: Counter[str] = Counter()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fogmetrics-") as name:
        directory = Path(name)
        with (
            BetanetStandIn(answers=lambda: moving(time.monotonic() - begun)) as betanet,
            HaproxyBefore(directory) as haproxy,
        ):
            daemon = Daemon(
                directory,
                interval_seconds=_INTERVAL_SECONDS,
                toml=_TOML.format(betanet=betanet.url, haproxy=haproxy.stats_url),
                # Rings that are lapped within the run: what a death leaves in a slot is met again.
                capacity=512 if effort.long else 32,
            )
            _add_program(directory, proof.NAME)
            faults = Faults(daemon, _ALL, effort.random(), effort.seconds(20, 1800))
            try:
                with daemon:
                    # Before there is anything to scrape: both take their time to begin.
                    with scraping(directory, daemon.port) as prometheus, Truth(daemon.namespace) as truth:
                        daemon.wait_until_collected(*_ALL_SOURCES)
                        wait_until(lambda: _all_run(daemon), 30, "all programs past startsecs")
                        _besiege(daemon, faults, prometheus, truth, haproxy, counts)
                        _judge_the_end(daemon, faults, prometheus, truth, counts)
                    _judge_what_is_left(daemon)
            except Violation as violation:
                tail = "\n".join(str(fault) for fault in faults.log[-20:])
                raise Violation(f"{violation}\nat {time.monotonic():.3f}, after the faults\n{tail}") from violation
    kinds = Counter((fault.what, fault.program == SUPERVISORD) for fault in faults.log)
    return {
        "processes killed": kinds["kill", False],
        "processes stopped and continued": kinds["stop", False],
        "supervisord killed": kinds["kill", True],
        "supervisord stopped and continued": kinds["stop", True],
        **counts,
    }


def _add_program(directory: Path, name: str) -> None:
    """A program in conf.d, by the example that the repository ships."""
    example = (ROOT / "conf.d" / "own-source.conf").read_text()
    lines = [line.removeprefix("; ") for line in example.partition("; [program:queue]\n")[2].splitlines()]
    text = "\n".join(["[program:queue]", *lines, ""]).replace("queue", name)
    (directory / "conf.d").mkdir()
    (directory / "conf.d" / f"{name}.conf").write_text(text.replace("%(here)s/../.venv/bin/python", sys.executable))


def _all_run(daemon: Daemon) -> bool:
    try:
        return daemon.states() == {**STATES, proof.NAME: "RUNNING"}
    except (OSError, xmlrpc.client.Error):  # a supervisord that has just begun
        return False


def _besiege(
    daemon: Daemon, faults: Faults, prometheus: Prometheus, truth: Truth, haproxy: HaproxyBefore, counts: Counter[str]
) -> None:
    """Scrape for as long as faults are injected."""
    scrapes = Scrapes(daemon.url, truth, faults.log, counts)
    with ThreadPoolExecutor(1) as pool:
        injected: Future[None] = pool.submit(faults.run)
        try:
            for i in itertools.count():
                if injected.done():
                    break
                scrapes.metrics(openmetrics=i % 2 == 0, promtool=i % 16 == 1)
                if i % 3 == 0:
                    scrapes.aggregated()
                elif i % 3 == 1:
                    scrapes.health()
                else:
                    scrapes.stats()
                if i % 4 == 0:
                    aftermath.judge_last_errors(prometheus.last_errors())
                    haproxy.request(2)
                time.sleep(_PAUSE_SECONDS)
        finally:
            faults.stop.set()
            scrapes.close()
        injected.result()


def _judge_the_end(daemon: Daemon, faults: Faults, prometheus: Prometheus, truth: Truth, counts: Counter[str]) -> None:
    """Everything recovers by itself; then the histories and what Prometheus has of them are judged."""
    deadline = time.monotonic() + _RECOVERY_SECONDS
    while not (_all_run(daemon) and _all_fresh(daemon) and prometheus.is_up()):
        faults.look_at_states()
        truth.catch_up()
        require(time.monotonic() < deadline, f"not recovered after {_RECOVERY_SECONDS:g} s: {daemon.states()}")
        time.sleep(_PAUSE_SECONDS)
    scrapes = Scrapes(daemon.url, truth, (), counts)
    scrapes.metrics()
    scrapes.aggregated()
    scrapes.stats()
    scrapes.close()
    daemon.supervisor("stopAllProcesses")
    truth.catch_up()
    for ring in truth.rings.values():
        aftermath.judge_history(ring, faults.log, counts)
        aftermath.judge_ring_file(ring)
    counts["frames that prove themselves"] = aftermath.judge_proof(truth.rings[proof.NAME])
    restarts = sum(fault.what == "kill" and fault.program in ("exporter", SUPERVISORD) for fault in faults.log)
    aftermath.judge_prometheus(prometheus, truth, restarts, counts)
    for path in sorted((daemon.directory / "run" / "log").glob("*.log*")):
        require("Traceback" not in path.read_text(), f"{path.name} has a traceback:\n{path.read_text()[-3000:]}")


def _all_fresh(daemon: Daemon) -> bool:
    try:
        found = daemon.get("/health").json()["sources"]
    except (httpx.TransportError, ValueError):
        return False
    return all(found.get(source, {}).get("status") == "fresh" for source in _ALL_SOURCES)


def _judge_what_is_left(daemon: Daemon) -> None:
    """Nothing but the rings and their locks, once the daemon was told to stop."""
    status = daemon.stop()
    require(status == 0, f"supervisord ended with status {status}")
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            directory = os.readlink(entry / "cwd")
        except OSError:  # it ended meanwhile, or is somebody else's
            continue
        require(directory != str(daemon.directory), f"process {entry.name} is left: {_command(entry)}")
    left = {path.name for path in DIRECTORY.glob(f"fogmetrics.{daemon.namespace}.*")}
    expected = {f"fogmetrics.{daemon.namespace}.{source}.{end}" for source in _ALL_SOURCES for end in ("ring", "lock")}
    require(left == expected, f"left in {DIRECTORY}: {sorted(left ^ expected)}")


def _command(entry: Path) -> str:
    return (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()


def _with_betanet(**options: str) -> str:
    """The patch of tests.daemon:Daemon.start that sets options of betanet's program in supervisord.conf."""
    return f"""
import configparser

def fault(self):
    conf = configparser.RawConfigParser()
    conf.read(self.directory / "supervisord.conf")
    conf["program:betanet"].update({options})
    with (self.directory / "supervisord.conf").open("w") as file:
        conf.write(file)
    original(self)
"""


MUTANTS = (
    Mutant(
        "daemon", "the exporter serves the series of a source that is stale", "exporter.rings:RingSet.stale",
        patch="def fault(self, rings): return tuple(ring.sequence == 0 for ring in rings)",
        says="as fresh, whose newest frame was stale",
    ),
    Mutant(
        "daemon", "a collector that is started again begins its ring anew",
        "shm.ring.segment:StoredSegment._prove_slots",
        code="self.hold(whole, max(least_head, *whole, 0))", becomes="self.hold(set(), least_head)",
        says="went back from sequence",
    ),
    Mutant(
        "daemon", "histograms do not go on where the history left them",
        "collector.frame.collector:MetricCollector._take_up",
        code="Cumulative(series.metric.buckets, whole)", becomes="Cumulative(series.metric.buckets)",
        says="fell from",
    ),
    Mutant(
        "daemon", "supervisord tries once to start a program again", "tests.daemon:Daemon.start",
        patch=_with_betanet(startsecs="5", startretries="1"), says="given betanet up",
    ),
    Mutant(
        "daemon", "supervisord does not start a program again", "tests.daemon:Daemon.start",
        patch=_with_betanet(autorestart="false"), says="nobody starts it again",
    ),
    Mutant(
        "daemon", "processes outlive their supervisord", "fogmetrics.parent:Parent.gone",
        patch="fault = property(lambda self: False)", says="after its supervisord was killed",
    ),
)  # fmt: skip
