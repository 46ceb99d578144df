"""Costs of prometheus_client, the usual library for metrics of Python programs.

Runs in a separate process, because the library chooses at import whether it keeps its values in files:
``python -m benchmarks.peers.client_python set|page SERIES``. It takes one turn for each line of its input and answers
with the seconds of CPU: of one ``set()`` on a child that was looked up before, or of one ``generate_latest``.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.values import MutexValue, ValueClass

from benchmarks.harness import answering
from benchmarks.served import LABEL, LARGEST, shapes

_ROUNDS = 20  # of set() on every child, a turn
_PAGES = 3  # a turn


@contextlib.contextmanager
def client_python(
    what: Literal["set", "page"], series: int, directory: Path, *, multiprocess: bool = False
) -> Iterator[Callable[[], float]]:
    """A callable that takes one turn. ``multiprocess``: values in files of ``directory``, as several workers share."""
    environ = {name: value for name, value in os.environ.items() if name.upper() != "PROMETHEUS_MULTIPROC_DIR"}
    if multiprocess:
        environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    with answering([sys.executable, "-m", __name__, what, str(series), str(multiprocess)], environ) as turn:
        yield turn


def main(what: str, series: int, multiprocess: bool) -> None:
    in_files = ValueClass is not MutexValue
    assert in_files == multiprocess, "the library keeps its values elsewhere than it was told"
    registry = CollectorRegistry()
    children = []
    for _, names in shapes(series):
        for name, values in names:
            gauge = Gauge(name, "A gauge.", [LABEL], registry=registry)
            children += [gauge.labels(value) for value in values]

    def set_all() -> None:
        for child, number in zip(children, numbers, strict=True):
            child.set(number)

    for _ in sys.stdin:
        spent = 0.0
        for _ in range(_ROUNDS if what == "set" else _PAGES):
            numbers = [round(random.uniform(0, LARGEST), 3) for _ in children]
            begun = time.process_time()
            set_all()
            if what == "page":
                begun = time.process_time()
                generate_latest(registry)
            spent += time.process_time() - begun
        print(spent / _ROUNDS / series if what == "set" else spent / _PAGES, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3] == "True")
