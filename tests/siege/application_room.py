"""Shared memory that is full while programs count: nothing is raised into them, and no signal ends them.

``python -m tests.siege.application_room full NAMESPACE …``, in a /dev/shm of its own, see :mod:`tests.siege.processes`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Final

from fogmetrics.application.shared_collector import SharedCollector, fold
from tests.rings import files_of
from tests.siege.application_tables import APPLICATION, by_label, shown
from tests.siege.harness import require
from tests.siege.processes import Done, fork, main, reaped, small_shm
from tests.siege.room.full_shm import PAGE, Filler, free

_BYTES: Final = 4 << 20


def _begun(namespace: str) -> SharedCollector:
    collector = SharedCollector(APPLICATION, namespace=namespace)
    collector.register_metric("hits", "counter", help="Counted.", label_names=("of",))
    collector.register_metric("level", "gauge", help="A level.", label_names=("of",))
    collector.register_metric("taken", "histogram", help="Observed.", label_names=("of",), buckets=(1.0, 2.0))
    return collector


def _all(collector: SharedCollector, of: str) -> None:
    """Whatever a program does with its metrics."""
    collector.increment("hits", labels={"of": of})
    collector.record_metric("level", 1.0, {"of": of})
    collector.record_metric("taken", 1.5, {"of": of})


def _unharmed(what: str, work: Callable[[], object]) -> None:
    try:
        work()
    except Exception as error:  # noqa: BLE001 - the promise
        require(False, f"{what}, in a full /dev/shm: {type(error).__name__}: {error}")


def full(namespace: str, rounds: str, seed: str) -> Done:
    """Fill it to the last page, and to a few more, while processes count, grow, fork, remove, fold and end."""
    small_shm(_BYTES)
    rng = random.Random(int(seed))
    collector = _begun(namespace)
    _all(collector, "first")
    without = 0
    with Filler(namespace) as filler:
        for number in range(int(rounds)):
            filler.give()
            filler.leave(rng.choice([0, 0, PAGE, 4 * PAGE, 40 * PAGE]))
            _unharmed("to count a series that is there", lambda: _all(collector, "first"))
            for at in range(12):
                _unharmed("to count a new series", lambda: _all(collector, f"{number}-{at}"))  # noqa: B023 - called at once
            status = reaped(fork(lambda: _forks(collector)))
            require(status == 0, f"in a full /dev/shm a fork that counts ended with {status}")
            _unharmed("to remove a series", lambda: collector.remove("hits", {"of": f"{number}-1"}))  # noqa: B023
            _unharmed("to clear a metric", lambda: collector.clear("level"))
            _unharmed("to fold", lambda: fold(namespace, APPLICATION, ""))
            status = reaped(fork(lambda: _begins(namespace)))
            require(status in (0, 1), f"in a full /dev/shm a process that starts and counts ended with {status}")
            without += status
        filler.give()
        require(free() > 0, "the check can't give back what it took")
        fold(namespace, APPLICATION, "")
    first = by_label(shown(namespace))["first"]
    least, most = int(rounds) + 1, 3 * int(rounds) + 1
    require(least <= first <= most, f"{least} were counted here, at most {most} with the forks: {first}")
    _all(collector, "behind")
    found = by_label(shown(namespace)).get("behind")
    require(found == 1.0, f"there is room again, and a new series is {found}")
    return {"rounds in a full /dev/shm": int(rounds), "starts without a table in it": without}


def _forks(collector: SharedCollector) -> None:
    _unharmed("to count in a fork", lambda: _all(collector, "first"))
    _unharmed("to count a new series in a fork", lambda: _all(collector, "new"))


def _begins(namespace: str) -> None:
    """A process of its own, which starts and counts; exit status 1 if it has no table, so that it counts for nobody."""
    import fogmetrics.application.shared_collector

    fogmetrics.application.shared_collector._tables.clear()
    begun: list[SharedCollector] = []
    _unharmed("to start", lambda: begun.append(_begun(namespace)))
    _unharmed("to count", lambda: _all(begun[0], "first"))
    if not any(f".{os.getpid()}-" in path.name for path in files_of(namespace)):
        os._exit(1)


if __name__ == "__main__":
    raise SystemExit(main({"full": full}))
