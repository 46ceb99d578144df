"""Apart: calls that may hang, made so that none of them holds up another.

Each call has a thread for as long as it lasts, and the calls share one while all is well: a call that has not ended
after a moment keeps the thread, and the calls behind it go on in another. One that has not ended in its time is left
behind with its thread, and refused until it comes back (collector/loop/timeouts.py).

    state of a call     how it leaves it
    ended               its result is there; the thread takes the next call
    late                waited for once all have begun, up to the time limit they have in common
    left behind         Hung now, and Hung at once whenever it is asked for, until it ends; that result is dropped
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from collector.loop.timeouts import Call, Hung, Runner

T = TypeVar("T")

# Ten times what the slowest of the host's groups takes on a small machine: calls that run at once would share one
# interpreter, and each would be timed with the others in it. What waits for another program soon waits beside the rest.
MOMENT_SECONDS = 0.01


class Apart(Generic[T]):
    """Makes calls by name, one thread at a time for each name. ``what`` they are is for messages.

    ``moment_seconds``: how long the calls behind one that has not ended wait before they begin.
    """

    def __init__(self, what: str, moment_seconds: float = MOMENT_SECONDS) -> None:
        self._what = what
        self._moment_seconds = moment_seconds
        self._idle: list[Runner] = []
        self._left: dict[str, tuple[Runner, Call[Any]]] = {}

    def call(self, jobs: Mapping[str, Callable[[], T]], timeout_seconds: float) -> dict[str, T | Exception]:
        """By name: what the job gave, what it raised, or Hung. Takes the time limit and a moment for each, at most."""
        deadline = time.monotonic() + timeout_seconds
        self._take_back()
        late: dict[str, tuple[Runner, Call[T]]] = {}
        found: dict[str, T | Exception] = {}
        for name, job in jobs.items():
            if name in self._left:
                found[name] = Hung(f"{self._what} {name} still hangs in an earlier reading")
                continue
            runner = self._idle.pop() if self._idle else Runner(self._what)
            try:
                call = runner.start(job)
            except RuntimeError as error:  # no thread to be had; those that are asked already are waited for
                found[name] = error
                continue
            if call.wait(self._moment_seconds):
                self._idle.append(runner)
                found[name] = _outcome(call)
            else:
                late[name] = runner, call
        for name, (runner, call) in late.items():
            if call.wait(max(deadline - time.monotonic(), 0.0)):
                self._idle.append(runner)
                found[name] = _outcome(call)
            else:
                self._left[name] = runner, call
                found[name] = Hung(f"{self._what} {name} did not answer within {timeout_seconds:g} s")
        self._spare()
        return {name: found[name] for name in jobs}

    def close(self) -> None:
        """End the threads that are idle; those that hang are left to the end of the process."""
        self._take_back()
        while self._idle:
            self._idle.pop().stop()

    def _take_back(self) -> None:
        for name in [name for name, (_, call) in self._left.items() if call.done]:
            self._idle.append(self._left.pop(name)[0])

    def _spare(self) -> None:
        while len(self._idle) > 1:
            self._idle.pop().stop()


def _outcome(call: Call[Any]) -> Any:
    if call.error is None:
        return call.result
    return call.error if isinstance(call.error, Exception) else RuntimeError(repr(call.error))
