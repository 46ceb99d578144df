"""np.sort and np.partition of rows, with some processor features disabled: ``python -m benchmarks.sorting``.

numpy chooses its code at import, so each set of features needs its own process with NPY_DISABLE_CPU_FEATURES. ``times``
starts it and reads the JSON that it prints.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import ROOT

Floats = NDArray[np.float64]

DISABLE: Final = "NPY_DISABLE_CPU_FEATURES"
ROWS: Final = 1000
LENGTHS: Final = (5760, 240)  # 24 hours and one at 15 s
FUNCTIONS: Final = ("sort", "partition", "partitions")
VALUES: Final = ("random", "walking", "few", "constant")
_TIMEOUT_SECONDS: Final = 60
# As the exporter takes rows: a piece that the cache holds.
_PIECE: Final = 2**18
_PERCENTS: Final = (50, 95, 99)


def found_features() -> list[str]:
    """Features that numpy found above its baseline, in rising order, by the names of this release of numpy."""
    told: Any = np.show_config(mode="dicts")
    extensions = (told or {}).get("SIMD Extensions", {})
    return list(extensions.get("found", []))


def is_avx512(feature: str) -> bool:
    """Whether that is AVX-512: numpy 2.4 names levels of the architecture, earlier releases AVX512F and others."""
    return feature.startswith("AVX512") or feature == "X86_V4"


def times(disabled: Iterable[str]) -> Mapping[str, float]:
    """CPU seconds by ``key``, with those features disabled."""
    environ = {**os.environ, "PYTHONPATH": str(ROOT), DISABLE: " ".join(disabled)}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.sorting"], env=environ, cwd=ROOT, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=_TIMEOUT_SECONDS, check=True,
    )  # fmt: skip
    found: Mapping[str, float] = json.loads(done.stdout)
    return found


def key(function: str, length: int, values: str) -> str:
    return f"{function} {length} {values}"


def rows_of(values: str, length: int) -> Floats:
    """Rows of that kind, shape (ROWS, length)."""
    random = np.random.default_rng(6)
    shape = ROWS, length
    if values == "random":
        return random.random(shape)
    if values == "walking":  # slowly, with two decimals
        return np.round(50 + np.cumsum(random.normal(0, 0.15, shape), axis=1), 2)
    if values == "few":  # ten different ones
        return random.integers(0, 10, shape).astype(np.float64)
    return np.full(shape, 42.0)


def _sort(rows: Floats) -> None:
    rows.sort(axis=1)


def _partition(rows: Floats) -> None:
    """Minimum, maximum and three percentiles in one call; numpy has no SIMD code for several places."""
    last = rows.shape[1] - 1
    rows.partition([0, *(_place(percent, last) for percent in _PERCENTS), last], axis=1)


def _partitions(rows: Floats) -> None:
    """The same with one call per place: each next percentile is among the samples above the previous one."""
    rows.min(axis=1)
    rows.max(axis=1)
    last = rows.shape[1] - 1
    done = 0
    for percent in _PERCENTS:
        rows[:, done:].partition(_place(percent, last) - done, axis=1)
        done = _place(percent, last)


def _place(percent: int, last: int) -> int:
    return -(-percent * last // 100)


def _seconds(job: Callable[[Floats], None], rows: Floats) -> float:
    rows = rows.copy()
    step = max(_PIECE // rows.shape[1], 1)
    begun = time.process_time()
    for first in range(0, len(rows), step):
        job(rows[first : first + step])
    return time.process_time() - begun


def main() -> None:
    job = dict(zip(FUNCTIONS, (_sort, _partition, _partitions), strict=True))
    for name in FUNCTIONS:
        _seconds(job[name], rows_of("few", LENGTHS[-1]))  # modules load
    found: dict[str, float] = {}
    for values in VALUES:
        for length in LENGTHS:
            rows = rows_of(values, length)
            found |= {key(name, length, values): _seconds(job[name], rows) for name in FUNCTIONS}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
