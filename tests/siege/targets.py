"""Bad targets: Betanet and all providers of deployment that answer slowly, never, for ever, or with nonsense.

The real collectors, ``python -m collector betanet`` and ``deployment``, against servers that behave otherwise at every
question: Betanet; supervisord and HAProxy, by Unix sockets and by HTTP; a control plane, an engine of containers and a
page for Prometheus. Each **round** has one or two endpoints that misbehave while another is well. Of every collection
in it:

- no series of a bad endpoint has a sample: no 0, and nothing that was true before;
- the error in the log names the endpoint and the reason, and collector_errors_total rises;
- the series of the endpoint that is well have samples, each of the answer that it came with, never one twice;
- the frame is there, the collection did not hang, and the collector's memory stays within MEMORY_MIB of what it was,
  for each provider that may misbehave at the same time.

Then answers with bytes changed at random, of which no sample may come that an answer did not entitle to; Betanet gone
for good, until the circuit opens, and back; and at the end what the exporter makes of it all must be an exposition.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

from exporter.app import Exporter
from exporter.http.negotiation import Format
from exporter.http.parameters import MetricsQuery
from fogmetrics.config import Config
from fogmetrics.settings.tables import ShmConfig
from shm.ring.reader import RingReader
from tests.programs import running
from tests.siege import targets_betanet as betanet
from tests.siege import targets_deployment as deployment
from tests.siege import targets_providers as providers
from tests.siege.harness import ROOT, Counts, Effort, Mutant, own_namespace, require
from tests.siege.hostile import HostileServer, silent
from tests.siege.processes import cpu_seconds
from tests.siege.targets_behaviour import LATE, Behaviour, Target
from tests.siege.targets_siege import Endpoint, Siege
from tests.siege.targets_watch import Stopped, Watched

# Intervals; timeouts are as long as these allow: a machine with other work must not look like a slow target.
_SHORT_SECONDS: Final = {"betanet": 0.15, "deployment": 0.35}
_LONG_SECONDS: Final = {"betanet": 0.25, "deployment": 0.4}
_LEFT_SECONDS: Final = 0.01
OPEN_SECONDS: Final = 0.5
SERIES_PER_METRIC: Final = 40
_IDLE_TICKS: Final = 3

# ---- the four collectors -------------------------------------------------------------------------------------

_CONFIG: Final = """\
[shm]
namespace = "{namespace}"
capacity = 4096
[collector]
interval_seconds = {interval}
timeout_seconds = {timeout}
max_series = {most}
max_series_per_metric = {per_metric}
[log]
level = "debug"
format = "json"
[source.betanet]
url = "{betanet}"
open_seconds = {open_seconds}
[source.deployment]
providers = {asked}
supervisord_url = "{supervisord}"
haproxy_url = "{haproxy}"
control_plane_url = "{control_plane}"
docker_url = "{docker}"
[source.deployment.prometheus.hostile]
url = "{prometheus}"
{mapping}
"""

_BETANET, _BY_TCP, _OTHERS = "betanet", "deployment", "deployment, other providers"
# What is attacked, each by a collector of its own: the source, and its targets by their names in _CONFIG.
_ATTACKED: Final[Mapping[str, tuple[str, Mapping[str, Sequence[Target]]]]] = {
    _BETANET: ("betanet", {"betanet": betanet.TARGETS}),
    "deployment by Unix sockets": (
        "deployment", {"supervisord": [deployment.SUPERVISORD], "haproxy": [deployment.haproxy(raw=True)]},
    ),
    _BY_TCP: ("deployment", {"supervisord": [deployment.SUPERVISORD], "haproxy": [deployment.haproxy(raw=False)]}),
    _OTHERS: (
        "deployment",
        {"control_plane": [providers.CONTROL_PLANE], "docker": [providers.DOCKER], "prometheus": [providers.PAGE]},
    ),
}  # fmt: skip
PARTS: Final = tuple(_ATTACKED)
_NOBODY: Final = "http://127.0.0.1:1"


class Attacked:
    """A collector in a namespace of its own, its targets, and the trap that nobody may ask."""

    def __init__(self, name: str, stop: threading.Event, effort: Effort) -> None:
        self.name = name
        self.source, self.targets = _ATTACKED[name]
        self.series = 0
        self.circuit = 0.0
        self._stop, self._seed = stop, f"{effort.seed} {self.name}"
        self._interval = (_LONG_SECONDS if effort.long else _SHORT_SECONDS)[self.source]
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Attacked:
        enter = self._stack.enter_context
        directory = Path(enter(tempfile.TemporaryDirectory(prefix="targets-")))
        self.namespace = enter(own_namespace())
        self.elsewhere = enter(HostileServer({}))
        urls = {key: _NOBODY for _, targets in _ATTACKED.values() for key in targets}
        endpoints = []
        for key, targets in self.targets.items():
            unix = directory / f"{key}.sock" if self.name.endswith("Unix sockets") else None
            server = enter(HostileServer({}, unix))
            urls[key] = server.url + (targets[0].path if targets[0].path_in_url else "")
            for target in targets:
                named = server.url + (target.path if len(targets) > 1 else "")
                endpoints.append(Endpoint(server, target, named, target.behaviours(self.elsewhere.url)))
                endpoints[-1].behaves()
        config = directory / "fogmetrics.toml"
        config.write_text(_CONFIG.format(
            namespace=self.namespace, interval=self._interval, timeout=self._interval - _LEFT_SECONDS,
            open_seconds=OPEN_SECONDS, most=4 * SERIES_PER_METRIC, per_metric=SERIES_PER_METRIC,
            asked=json.dumps(list(self.targets)), mapping=providers.MAPPING, **urls,
        ))  # fmt: skip
        command = [sys.executable, "-m", "collector", self.source, "--config", str(config)]
        self.program = enter(running(command, directory / "log", cwd=ROOT))
        self.watched = Watched(self.namespace, self.source, self.program, self._stop, len(endpoints) - 1)
        self._stack.callback(self.watched.close)
        self.siege = Siege(self.watched, endpoints, self.elsewhere, random.Random(self._seed))
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.program.pid}/fd"))

    def cpu_seconds_per_tick(self) -> float:
        """Over some ticks in which all is well."""
        begin, ticks = cpu_seconds(self.program.pid), 0
        while ticks < _IDLE_TICKS:
            ticks += len(self.watched.new())
        return (cpu_seconds(self.program.pid) - begin) / ticks


# ---- what is done to each ------------------------------------------------------------------------------------


def _attack(attacked: Attacked, rounds: int, mutated: int) -> None:
    siege = attacked.siege
    siege.well()
    for _ in range(_IDLE_TICKS):
        siege.well()
    attacked.watched.idles()
    files, seconds = attacked.files(), attacked.cpu_seconds_per_tick()
    siege.bad_rounds(rounds)
    siege.mutated(mutated)
    siege.round(dict.fromkeys(range(len(siege.endpoints)), _SILENT))
    _wait_for_circuit(attacked, _OPEN, "Betanet answers nothing at all, and its circuit does not open")
    siege.well()
    _wait_for_circuit(attacked, _CLOSED, "Betanet is well again, and its circuit does not close")
    _exposition(attacked)
    # What is cut off again and again must leave nothing behind: no descriptor, and no task that spins.
    now = attacked.files()
    require(now <= files + _MORE_FILES, f"collector {attacked.name} has {now} open files, and had {files} at first")
    now_seconds = attacked.cpu_seconds_per_tick()
    require(
        now_seconds < 3 * seconds + _MORE_CPU_SECONDS,
        f"collector {attacked.name} takes {now_seconds:.3f} s of CPU a tick while all is well, and took {seconds:.3f}",
    )


_MORE_FILES: Final = 6  # connections of the collection that runs
_MORE_CPU_SECONDS: Final = 0.05


def _wait_for_circuit(attacked: Attacked, state: float, otherwise: str) -> None:
    """Betanet is left alone when nobody has answered for some time, and asked again once it is well."""
    left = 40
    while attacked.source == "betanet" and attacked.circuit != state:
        for tick in attacked.watched.new():
            left -= 1
            attacked.circuit = tick.values.get(_CIRCUIT, attacked.circuit)
        require(left > 0, otherwise)


# Absent in a collection that was cut off.
_CIRCUIT: Final = "collector_circuit_state", ("betanet",)
_CLOSED: Final = 0.0
_OPEN: Final = 2.0
_SILENT: Final = Behaviour("accepts and never answers", silent, LATE)


def _exposition(attacked: Attacked) -> None:
    """What the exporter makes of the ring is an exposition, and no metric has more series than are allowed."""
    exporter = Exporter(Config(shm=ShmConfig(namespace=attacked.namespace)))
    try:
        page = b"".join(exporter.metrics_parts(MetricsQuery(()), Format.TEXT)).decode()
    finally:
        exporter.close()
    names = [f"{one.name}{sorted(one.labels.items())}" for family in text_string_to_metric_families(page)
             for one in family.samples]  # fmt: skip
    require(len(names) == len(set(names)), f"the exposition of {attacked.name} has a sample twice")
    require(any(one.startswith(attacked.source) for one in names), f"the exposition lacks the source {attacked.source}")
    with RingReader(attacked.namespace, attacked.source) as ring:
        series = [one.metric.name for one in ring.series]
    attacked.series = max(series.count(name) for name in set(series))
    require(
        attacked.series <= SERIES_PER_METRIC,
        f"a metric of {attacked.name} has {attacked.series} series, of {SERIES_PER_METRIC} at most",
    )


def check(effort: Effort) -> Counts:
    stop = threading.Event()
    with contextlib.ExitStack() as stack:
        rounds = {"betanet": effort.many(15, 900)}
        attacks = [
            (stack.enter_context(Attacked(name, stop, effort)), rounds.get(name, effort.many(9, 400)))
            for name in _ATTACKED
            if effort.part in ("", name)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(len(attacks)))
        done = [pool.submit(_attack, one, many, effort.many(4, 250)) for one, many in attacks]
        failed: list[BaseException] = []
        for future in as_completed(done):
            if (error := future.exception()) is not None:
                stop.set()
                failed.append(error)
        for error in sorted(failed, key=lambda one: isinstance(one, Stopped)):
            raise error
        return _counts([attacked for attacked, _ in attacks])


def _counts(attacked: list[Attacked]) -> Counts:
    sieges = [one.siege for one in attacked]
    return {
        "collections": sum(one.watched.ticks for one in attacked),
        "rounds": sum(one.rounds for one in sieges),
        "ways to behave": len({name for one in sieges for _, name in one.tried}),
        "targets and ways": sum(len(one.tried) for one in sieges),
        "answers with changed bytes": sum(one.answers_changed for one in sieges),
        "memory grew at most by": f"{max(one.watched.grown_bytes for one in attacked) / 2**20:.1f} MiB",
        "most series of a metric": max(one.series for one in attacked),
    }


_CLIENT = "collector.sources.http_client"
_PROVIDERS = "collector.sources.deployment"

MUTANTS: tuple[Mutant, ...] = (
    Mutant(
        "targets", "an answer may have any size", f"{_CLIENT}:_Connection._body",
        code="size > self._limits.max_reply_bytes", becomes="False", says="no whole answer within", part=_BETANET,
    ),
    Mutant(
        "targets", "a redirect is an answer", f"{_CLIENT}:_check_head",
        code="status != 200", becomes="status not in (200, 302, 307)", says="redirects to", part=_BETANET,
    ),
    Mutant(
        "targets", "no time for one endpoint alone", f"{_CLIENT}:HttpClient.exchange",
        code="time.monotonic() + seconds", becomes="time.monotonic() + 1e6", says="still hangs in an earlier",
        part=_BETANET,
    ),
    Mutant(
        "targets", "a request that is given up goes on", f"{_CLIENT}:_Connection.shut_down",
        patch="def fault(self): pass", says="its samples are absent", part=_BETANET,
    ),
    Mutant(
        "targets", "what is compressed is an answer", f"{_CLIENT}:_check_head",
        code='encoding.strip().lower() != "identity"', becomes="False", says="no error says", part=_BETANET,
    ),
    Mutant(
        "targets", "numbers below 0 are numbers", "collector.sources.betanet.reply:read_reply",
        code="0 <= value <= most", becomes="value <= most", says="not a number from 0 up", part=_BETANET,
    ),
    Mutant(
        "targets", "what is no number is 0", f"{_PROVIDERS}.haproxy:_count",
        patch="def fault(*cell): return original(*cell) or 0", says="has a sample, 0.0", part=_BY_TCP,
    ),
    Mutant(
        "targets", "providers are asked one after the other", f"{_PROVIDERS}.source:DeploymentMetricSource.__init__",
        patch="""
            def fault(self, *arguments, **named):
                original(self, *arguments, **named)
                self._calls = CallPool("provider", 60.0)
        """,
        says="'deployment ",  # did not answer, or still hangs: the collection as a whole
        part=_OTHERS,
    ),
    Mutant(
        "targets", "NaN is JSON", "collector.sources.json_reply:_reject",
        patch="def fault(constant): return 0.0", says="answers NaN, and", part=_OTHERS,
    ),
    Mutant(
        "targets", "replicas below 0 are replicas", "collector.sources.json_reply:count",
        code="0 <= value <= MAX_COUNT", becomes="True", says="not a number from 0 up", part=_OTHERS,
    ),
    Mutant(
        "targets", "a page may break off", "collector.sources.prometheus_text:read_samples",
        code='not text.endswith("\\n")', becomes="False", says="breaks off in mid-line", part=_OTHERS,
    ),
    Mutant(
        "targets", "what a page has below 0 is a count", f"{_PROVIDERS}.prometheus_reading:_count",
        patch="def fault(value): return value", says="has a sample", part=_OTHERS,
    ),
)  # fmt: skip
