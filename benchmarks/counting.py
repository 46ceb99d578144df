"""An application that counts in one of four ways: ``python -m benchmarks.counting original|drop_in|locked|shared``.

*original* is prometheus_client's multiprocess mode, with files in $PROMETHEUS_MULTIPROC_DIR; *drop_in* the same code
with one more line; *locked* the drop-in with a lock for each store, as on interpreters without the GIL; *shared* a
SharedCollector. Each line of input is a call of a method of :class:`Counting` in JSON; the output is its result.

``python -m benchmarks.counting`` alone measures stores of the first three in turns.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import repeat
from typing import Any, Final, Literal

from benchmarks.harness import answering
from shm.files import DIRECTORY
from tests.rings import remove_files_of

Kind = Literal["original", "drop_in", "locked", "shared"]
APPLICATION: Final = "bench"
PER_METRIC: Final = 50
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)  # the library's
_WARM: Final = 1000
_AT_ONCE: Final = 4  # workers, in a storm of restarts

STORES: Final = ("inc", "set", "observe", "summary", "labels().inc")


class Counting:
    """The functions that the application offers; runs in a separate process."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
        self._children: list[tuple[int, int, int]] = []  # pid, where it is told, where it answers
        self._stores = self._made_stores()
        self._restarted: list[Callable[[], None]] = []

    def _made_stores(self) -> dict[str, Callable[[int], None]]:
        """The functions that make that many stores of each kind."""
        if self._kind == "shared":
            from fogmetrics.application.shared_collector import SharedCollector

            self._collector = collector = SharedCollector(APPLICATION)
            collector.register_metric("b_requests", "counter", label_names=("path",))
            collector.register_metric("b_busy", "gauge")
            collector.register_metric("b_seconds", "histogram", buckets=_BUCKETS)
            labels = {"path": "/"}
            counter, gauge = collector.series("b_requests", labels), collector.series("b_busy")
            collector.register_metric("b_bytes", "summary")
            names: dict[str, Any] = {
                "counter": counter, "gauge": gauge, "histogram": collector.series("b_seconds"),
                "summary": collector.series("b_bytes"), "labels": labels, "collector": collector,
            }  # fmt: skip
            codes = (
                "counter.inc(1.0)", "gauge.set(2.0)", "histogram.observe(0.3)", "summary.observe(0.3)",
                "collector.increment('b_requests', 1.0, labels)",
            )  # fmt: skip
        else:
            if self._kind == "locked":
                from shm.table import cells

                cells.lock_every_store()
            if self._kind != "original":
                from fogmetrics import drop_in

                drop_in.install(APPLICATION)
            from prometheus_client import Counter, Gauge, Histogram, Summary

            requests = Counter("b_requests", "Requests.", ["path"])
            names = {
                "requests": requests, "counter": requests.labels("/"),
                "gauge": Gauge("b_busy", "Busy.", multiprocess_mode="livesum"),
                "histogram": Histogram("b_seconds", "Time."), "summary": Summary("b_bytes", "Size."),
            }  # fmt: skip
            codes = (
                "counter.inc()", "gauge.set(2.0)", "histogram.observe(0.3)", "summary.observe(0.3)",
                "requests.labels('/').inc()",
            )  # fmt: skip
        return {what: _looped(code, names) for what, code in zip(STORES, codes, strict=True)}

    # ---- stores ---------------------------------------------------------------------------------------------

    def rate(self, what: str, number: int, processes: int) -> float:
        """Stores per second of all processes together, ``number`` each; of a single process, per second of CPU."""
        store = self._stores[what]

        def work(heard: int, told: int) -> None:
            store(_WARM)
            os.write(told, b"r")
            os.read(heard, 1)
            store(number)
            os.write(told, b"d")

        if processes == 1:
            store(_WARM)
            begun = time.process_time()
            store(number)
            return number / (time.process_time() - begun)
        children = [_forked(work) for _ in range(processes)]
        for _, _, answer in children:
            os.read(answer, 1)
        begun = time.perf_counter()
        for _, tell, _ in children:
            os.write(tell, b"g")
        for _, _, answer in children:
            os.read(answer, 1)
        taken = time.perf_counter() - begun
        self._end(children)
        return processes * number / taken

    # ---- many processes -------------------------------------------------------------------------------------

    def start(self, processes: int, series: int) -> None:
        """Start processes up to that number, each with the same number of the same series; see change."""
        from prometheus_client import Counter

        metrics = [Counter(f"s{series}_{n}_{processes}", "Counts.", ["number"]) for n in range(series // PER_METRIC)]

        def work(heard: int, told: int) -> None:
            children = [metric.labels(str(number)) for metric in metrics for number in range(PER_METRIC)]
            amount = 1.0
            while True:
                for child in children:
                    child.inc(amount)
                amount += 0.125
                os.write(told, b"d")
                if os.read(heard, 1) != b"g":
                    return

        for _ in range(processes):
            self._children.append(_forked(work))
        for _, _, answer in self._children:
            os.read(answer, 1)

    def change(self) -> None:
        """Let every process count in each of its series."""
        for _, tell, _ in self._children:
            os.write(tell, b"g")
        for _, _, answer in self._children:
            os.read(answer, 1)

    def stop(self) -> None:
        for _, tell, _ in self._children:
            os.write(tell, b"e")  # its end is nothing that they see: each has the ends of those before it
        self._end(self._children)
        self._children = []

    # ---- restarts -------------------------------------------------------------------------------------------

    def restarts(self, number: int) -> float:
        """Run workers that count in 50 series each and exit, every second one by SIGKILL; return the seconds taken."""
        from prometheus_client import Counter, Gauge, Histogram, multiprocess

        if not self._restarted:
            counters = Counter("r_requests", "Requests.", ["path"])
            gauges = Gauge("r_busy", "Busy.", ["path"], multiprocess_mode="livesum")
            histograms = Histogram("r_seconds", "Time.", ["path"])
            self._restarted = [
                *(lambda n=n: counters.labels(str(n)).inc() for n in range(30)),
                *(lambda n=n: gauges.labels(str(n)).set(n) for n in range(10)),
                *(lambda n=n: histograms.labels(str(n)).observe(n) for n in range(10)),
            ]  # fmt: skip

        def work(heard: int, told: int) -> None:
            for store in self._restarted:
                store()
            if os.getpid() % 2:
                os.kill(os.getpid(), signal.SIGKILL)

        begun = time.perf_counter()
        for first in range(0, number, _AT_ONCE):
            for child in [_forked(work) for _ in range(min(_AT_ONCE, number - first))]:
                self._end([child])
                multiprocess.mark_process_dead(child[0])  # type: ignore[no-untyped-call]
        return time.perf_counter() - begun

    @staticmethod
    def _end(children: Sequence[tuple[int, int, int]]) -> None:
        for pid, tell, answer in children:
            os.close(tell)
            os.close(answer)
            os.waitpid(pid, 0)


def _looped(code: str, names: Mapping[str, Any]) -> Callable[[int], None]:
    """Return a function that runs the statement a given number of times in a plain loop."""
    space = {"repeat": repeat, **names}
    exec(f"def loop(number):\n for _ in repeat(None, number):\n  {code}", space)  # as timeit does
    loop: Callable[[int], None] = space["loop"]
    return loop


def _forked(work: Callable[[int, int], None]) -> tuple[int, int, int]:
    """Fork a child that runs ``work(heard, told)`` and exits normally: (pid, its input, its output)."""
    heard, tell = os.pipe()
    answer, told = os.pipe()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            os.close(tell)
            os.close(answer)
            work(heard, told)
            atexit._run_exitfuncs()
            status = 0
        finally:
            os._exit(status)
    os.close(heard)
    os.close(told)
    return pid, tell, answer


# ---- the other side ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def counting(kind: Kind, namespace: str, directory: str) -> Iterator[Callable[..., Any]]:
    """Start an application, with tables in ``namespace`` or the original's files in ``directory``."""
    environ = {name: value for name, value in os.environ.items() if name.upper() != "PROMETHEUS_MULTIPROC_DIR"}
    environ["FOGMETRICS_NAMESPACE"] = namespace
    if kind == "original":
        environ["PROMETHEUS_MULTIPROC_DIR"] = directory
    with answering([sys.executable, "-m", "benchmarks.counting", kind], environ) as do:
        yield do


def compare(turns: int = 9, stores: int = 200_000) -> None:
    """Print the stores per second of CPU of each kind, and their ratio to the original's."""
    namespace = f"bench-counting-{os.getpid()}"
    kinds: tuple[Kind, ...] = ("original", "drop_in", "locked")
    found: dict[tuple[str, Kind], list[float]] = {(what, kind): [] for what in STORES for kind in kinds}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=DIRECTORY) as directory, contextlib.ExitStack() as stack:
        stack.callback(remove_files_of, namespace)
        applications = {kind: stack.enter_context(counting(kind, namespace, directory)) for kind in kinds}
        for _ in range(turns):
            for (what, kind), rates in found.items():
                rates.append(applications[kind]("rate", what, stores, 1) / 1e6)
    print(f"million/s    {'':14}" + "".join(f"{kind:>18}" for kind in kinds))
    for what in STORES:
        medians = [statistics.median(found[what, kind]) for kind in kinds]
        print(f"{what:27}" + "".join(f"{rate:10.2f} ({rate / medians[0]:4.1f}×)" for rate in medians))


def main(kind: Kind) -> None:
    application = Counting(kind)
    for line in sys.stdin:
        what, *arguments = json.loads(line)
        print(json.dumps(getattr(application, what)(*arguments)), flush=True)
    application.stop()


if __name__ == "__main__":
    main(sys.argv[1]) if sys.argv[1:] else compare()  # type: ignore[arg-type]
