"""Attack the whole daemon: kill, stop and continue its processes at random, and judge every scrape and every frame.

The repository's own supervisord.conf and a source of a user's own run under the real supervisord, while
:mod:`tests.siege.daemon.faults` sends SIGKILL, SIGSTOP and SIGCONT to collectors, exporter and supervisord. A real
Prometheus scrapes, and so does this check. :mod:`tests.siege.daemon.pages` compares every answer with what
:mod:`tests.siege.daemon.rings` has read of the rings; :mod:`tests.siege.daemon.aftermath` judges the histories and what
Prometheus stored. In the end every program must run again.

``make promises`` has some 15 seconds of faults, ``python -m tests.siege daemon --scale 8`` two minutes, the long form
half an hour.
"""

from __future__ import annotations

import itertools
import tempfile
import time
import xmlrpc.client
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

from shm.files import DIRECTORY
from tests.daemon import PROGRAMS, SOURCES, STATES, Daemon
from tests.haproxy import HaproxyBefore
from tests.programs import wait_until
from tests.prometheus import Prometheus, scraping
from tests.siege.daemon import aftermath, proof
from tests.siege.daemon.faults import SUPERVISORD, Faults
from tests.siege.daemon.pages import Pages
from tests.siege.daemon.rings import Rings
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
                # Rings that are lapped within the run, so that what a death leaves in a slot is met again.
                capacity=512 if effort.long else 32,
            )
            faults = Faults(daemon, _ALL, effort.random(), effort.seconds(15, 1800))
            try:
                with daemon:
                    with scraping(directory, daemon.port) as prometheus, Rings(daemon.namespace) as rings:
                        daemon.wait_until_collected(*_ALL_SOURCES)
                        wait_until(lambda: _all_run(daemon), 30, "all programs past startsecs")
                        _besiege(daemon, faults, prometheus, rings, haproxy, counts)
                        _judge_the_end(daemon, faults, prometheus, rings, counts)
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


def _all_run(daemon: Daemon) -> bool:
    try:
        return daemon.states() == {**STATES, proof.NAME: "RUNNING"}
    except (OSError, xmlrpc.client.Error):  # a supervisord that has just begun
        return False


def _all_fresh(daemon: Daemon) -> bool:
    try:
        found = daemon.get("/health").json()["sources"]
    except (httpx.TransportError, ValueError):
        return False
    return all(found.get(source, {}).get("status") == "fresh" for source in _ALL_SOURCES)


def _besiege(
    daemon: Daemon, faults: Faults, prometheus: Prometheus, rings: Rings, haproxy: HaproxyBefore, counts: Counter[str]
) -> None:
    """Scrape for as long as faults are injected."""
    pages = Pages(daemon.url, rings, faults.log, counts)
    with ThreadPoolExecutor(1) as pool:
        injected = pool.submit(faults.run)
        try:
            for i in itertools.count():
                if injected.done():
                    break
                pages.metrics(openmetrics=i % 2 == 0)
                (pages.aggregated, pages.health, pages.stats)[i % 3]()
                if i % 4 == 0:
                    aftermath.judge_last_errors(prometheus.last_errors())
                    haproxy.request(2)
                time.sleep(_PAUSE_SECONDS)
        finally:
            faults.stop.set()
            pages.close()
        injected.result()


def _judge_the_end(daemon: Daemon, faults: Faults, prometheus: Prometheus, rings: Rings, counts: Counter[str]) -> None:
    """Everything recovers by itself; then the histories, and what Prometheus has of them, are judged."""
    deadline = time.monotonic() + _RECOVERY_SECONDS
    while not (_all_run(daemon) and _all_fresh(daemon) and prometheus.is_up()):
        faults.look_at_states()
        rings.catch_up()
        require(time.monotonic() < deadline, f"not recovered after {_RECOVERY_SECONDS:g} s: {daemon.states()}")
        time.sleep(_PAUSE_SECONDS)
    pages = Pages(daemon.url, rings, (), counts)
    for ask in (pages.metrics, pages.aggregated, pages.stats):
        ask()
    pages.close()
    daemon.supervisor("stopAllProcesses")
    rings.catch_up()
    for ring in rings.by_source.values():
        aftermath.judge_history(ring, faults.log, counts)
    counts["frames that prove themselves"] = aftermath.judge_proof(rings.by_source[proof.NAME])
    aftermath.judge_prometheus(prometheus, rings, counts)
    for path in sorted((daemon.directory / "run" / "log").glob("*.log*")):
        require("Traceback" not in path.read_text(), f"{path.name} has a traceback:\n{path.read_text()[-3000:]}")


def _judge_what_is_left(daemon: Daemon) -> None:
    """A daemon that is stopped leaves no process, and no file but its rings and their locks."""
    status = daemon.stop()
    require(status == 0, f"supervisord ended with status {status}")
    for process in psutil.process_iter(["cwd", "cmdline"]):
        require(process.info["cwd"] != str(daemon.directory), f"process {process.pid} is left: {process.info}")
    left = {path.name for path in DIRECTORY.glob(f"fogmetrics.{daemon.namespace}.*")}
    expected = {f"fogmetrics.{daemon.namespace}.{source}.{end}" for source in _ALL_SOURCES for end in ("ring", "lock")}
    require(left == expected, f"left in {DIRECTORY}: {sorted(left ^ expected)}")


def _with_betanet(**options: str) -> str:
    """The patch of tests.daemon:Daemon.start that sets options of betanet's program in conf.d."""
    lines = "".join(f"\\n{name} = {value}" for name, value in options.items())
    return f"""
def fault(self):
    (self.directory / "conf.d").mkdir(exist_ok=True)
    (self.directory / "conf.d" / "betanet.conf").write_text("[program:betanet]{lines}\\n")
    original(self)
"""


MUTANTS = (
    Mutant(
        "daemon", "the exporter serves the series of a source that is stale", "exporter.rings:RingSet._is_stale",
        patch="def fault(self, ring, *now): return ring.sequence == 0",
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
