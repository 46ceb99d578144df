"""Processes of an application, which do what a test tells them to."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fogmetrics.settings import ENV_GROUP, ENV_NAMESPACE
from shm.metric import Metric
from shm.ring.layout import ABSENT
from shm.table.format import listed
from shm.table.merge import ApplicationReader
from shm.table.process import ProcessTable

ROOT = Path(__file__).resolve().parent.parent

_CHILD = """\
import json, sys
names = {}
for line in sys.stdin:
    said = json.loads(line)
    try:
        code = compile(said, "<test>", "eval")
    except SyntaxError:
        exec(compile(said, "<test>", "exec"), names)
        found = None
    else:
        found = eval(code, names)
    print(repr(found), flush=True)
"""

SHARED = "from fogmetrics.application.shared_collector import SharedCollector; collector = SharedCollector('web')"
DROP_IN = """\
from fogmetrics import drop_in; drop_in.install('web')
import glob, math, os, signal, threading, prometheus_client as p
def forked(job):
    pid = os.fork()
    if not pid:
        try: job()
        finally: os._exit(0)
    os.waitpid(pid, 0)
"""


class Process:
    """A Python process in ``namespace``. ``begin``: the first code that it runs."""

    def __init__(self, namespace: str, begin: str = SHARED, environ: dict[str, str] | None = None) -> None:
        env = {name: value for name, value in os.environ.items() if name != ENV_GROUP}
        env |= {ENV_NAMESPACE: namespace, "PYTHONPATH": str(ROOT), **(environ or {})}
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD], cwd=ROOT, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.pid = self._process.pid
        self.do(begin)

    def do(self, code: str) -> str:
        """The repr of the expression's value, "None" for statements; AssertionError when the process ended over it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(code) + "\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        assert said, f"the process ended over {code}"
        return said.rstrip("\n")

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._wait()

    def end(self) -> None:
        """In good order."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(30) == 0
        self._wait()

    def _wait(self) -> None:
        self._process.wait(30)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process.poll() is None:
            self.kill()


def ring_writer(namespace: str) -> Process:
    """A process with a writer, which has appended a frame, and which an end in good order closes."""
    return Process(
        namespace,
        "import atexit; from tests.rings import append_proof, open_writer\n"
        f"writer = open_writer({namespace!r}, columns=2); append_proof(writer); atexit.register(writer.close)",
    )


def cell_of(
    table: ProcessTable, metric: Metric, *label_values: str, mode: str = "sum", first: float | None = None
) -> Any:
    """The cell of that series, of the class that the metric's type and mode give it."""
    return table.cell(metric, label_values, mode, first)


def merged(
    namespace: str, application: str = "web", identities: Sequence[str] | None = None
) -> dict[str, list[float]]:  # fmt: skip
    """What a scrape would have, by ``name{values}``: of each series that is there its columns.

    ``identities``: of the tables that it has listed; by default those that there are.
    """
    reader = ApplicationReader(namespace, application, {os.geteuid()})
    try:
        values = reader.refresh(listed(namespace).get(application, []) if identities is None else identities)
        assert not reader.errors
        return {
            f"{one.metric.name}{{{','.join(one.label_values)}}}": values[one.column : one.end].tolist()
            for one in reader.plan.series
            if values[one.end - 1 : one.end].tobytes() != ABSENT
        }
    finally:
        reader.close()
