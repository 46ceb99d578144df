"""Calls with a timeout, on threads that are abandoned when a call hangs.

A system call can hang where no signal ends it (statvfs on a dead NFS mount), and a thread can't be killed. So calls
that may hang run on daemon threads, and their callers wait for a limited time:

    the call                         the caller gets
    returns or raises                its result or exception
    exceeds its timeout              Hung; its thread is abandoned, and a late result is dropped
    is made while one before hangs   Hung at once
    can't start a thread             RuntimeError; the next call tries again

Futures are from concurrent.futures, but its executors don't fit: at exit they wait for all of their threads.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar
from weakref import WeakValueDictionary, ref

from shm.errors import FogmetricsError

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

# Ten times what the slowest group of the host source takes on a small machine. Calls that run at the same time share
# one interpreter, so the duration of each would include the others.
MOMENT_SECONDS: Final = 0.01

# How often a waiting caller checks whether the process must stop. A call that returns wakes it at once.
_STOP_CHECK_SECONDS: Final = 0.1
_JOIN_SECONDS: Final = 1.0


class Hung(FogmetricsError):
    """The call did not return in time, or an earlier one has not returned yet."""


class Broken(FogmetricsError):
    """The call raised an exception that would end a process: SystemExit, KeyboardInterrupt, CancelledError."""


class Call(Future[T]):
    """One call, pending until it returns or raises. ``name`` is for messages."""

    def __init__(self, name: str, timeout_seconds: float) -> None:
        super().__init__()
        self.name = name
        self.begun = time.monotonic()
        self._timeout_seconds = timeout_seconds

    def refuse(self) -> None:
        """Fail, since the call of this name before it hangs."""
        self.set_exception(Hung(f"{self.name} still hangs in an earlier collection"))

    def returned_within(self, seconds: float) -> bool:
        """Wait up to ``seconds``; True if the call has returned or raised."""
        return self.done() or bool(wait((self,), max(seconds, 0.0)).done)

    def value(self, stop: Callable[[], bool] = lambda: False) -> T:
        """Wait for the result. Raises the call's exception, or Hung after the timeout or once ``stop()`` is true."""
        deadline = self.begun + self._timeout_seconds
        while not self.returned_within(min(deadline - time.monotonic(), _STOP_CHECK_SECONDS)):
            if time.monotonic() >= deadline:
                raise Hung(f"{self.name} did not answer within {self._timeout_seconds:g} s")
            if stop():
                raise Hung(f"{self.name} was abandoned in mid-collection, because this process stops")
        return self.result()

    def outcome(self) -> T | Exception:
        """The result, or the exception that :meth:`value` would raise."""
        try:
            return self.value()
        except Exception as error:  # noqa: BLE001 - any failure of the call
            return error


class CallThread:
    """A daemon thread that runs one call at a time. It starts with the first call; ``name`` is for messages."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        # Weak: a result is freed with its caller's last reference. A call that has not returned is held by its thread.
        self._last: Callable[[], Call[Any] | None] = lambda: None
        self._loop: asyncio.Runner | None = None

    @property
    def busy(self) -> bool:
        """True until the last call has returned."""
        last = self._last()
        return last is not None and not last.done()

    def call(self, job: Callable[[], T], timeout_seconds: float) -> T:
        """Run ``job()`` and return its result. Raises its exception, Hung, or RuntimeError if no thread can start."""
        return self.start(job, timeout_seconds).value()

    def start(self, job: Callable[[], T], timeout_seconds: float) -> Call[T]:
        """Start ``job()`` without waiting for it; its timeout runs from now. A refused call is one that has failed."""
        call: Call[T] = Call(self.name, timeout_seconds)
        if self.busy:
            call.refuse()
            return call
        self._last = ref(call)
        try:
            self.post(lambda: self.run(call, job))
        except RuntimeError as error:
            call.set_exception(error)
        return call

    def post(self, job: Callable[[], None]) -> None:
        """Let the thread run ``job``, which must not raise, after those before it. Raises RuntimeError: no thread."""
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=f"calls-{self.name}", daemon=True)
            thread.start()
            self._thread = thread
        self._jobs.put(job)

    def run(self, call: Call[T], job: Callable[[], T]) -> None:
        """Run a call: on this thread, in a posted job."""
        self._last = ref(call)
        try:
            call.set_result(job())
        except Exception as error:  # noqa: BLE001 - for the caller
            call.set_exception(error)
        except BaseException as error:  # noqa: BLE001 - fails this call, not the thread
            broken = Broken(f"{call.name} raised {type(error).__name__}, which would end its process")
            call.set_exception(broken.with_traceback(error.__traceback__))

    def resolve(self, result: Any, timeout_seconds: float) -> Any:
        """``result``, awaited if it is awaitable, on an event loop that lives as long as the thread.

        Call it only from jobs on this thread. Raises Hung after the timeout. asyncio is imported here: without it, a
        process takes 7 MiB less.
        """
        if not hasattr(result, "__await__"):
            return result
        import asyncio

        async def bounded() -> Any:
            async with asyncio.timeout(timeout_seconds):
                return await result

        if self._loop is None:
            self._loop = asyncio.Runner()
        try:
            return self._loop.run(bounded())
        except TimeoutError:
            raise Hung(f"{self.name} did not answer within {timeout_seconds:g} s") from None

    def close(self) -> None:
        """End the thread when it is idle, now or when its call returns."""
        if self._thread is not None:
            self._jobs.put(None)
            if not self.busy:
                self._thread.join(_JOIN_SECONDS)
            self._thread = None

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # and with it what it refers to
        if self._loop is not None:
            self._loop.close()
            self._loop = None


class CallPool(Generic[T]):
    """Runs several named calls so that a slow one does not delay the others; ``what`` they call is for messages.

    Calls run in turn on one thread: on several they would wait for each other's interpreter lock. If none returns
    within ``moment_seconds``, those that have not begun move to a new thread. A call that exceeds its timeout is
    abandoned; asking for it again fails at once until it returns.
    """

    def __init__(self, what: str, moment_seconds: float = MOMENT_SECONDS) -> None:
        self._what = what
        self._moment_seconds = moment_seconds
        self._threads: list[CallThread] = []
        self._last: WeakValueDictionary[str, Call[T]] = WeakValueDictionary()  # of each name

    def call(self, jobs: Mapping[str, Callable[[], T]], timeout_seconds: float) -> dict[str, T | Exception]:
        """The result or exception of each call, by name. Takes at most the timeout plus two moments for each call."""
        return {name: call.outcome() for name, call in self.start(jobs, timeout_seconds).items()}

    def start(self, jobs: Mapping[str, Callable[[], T]], timeout_seconds: float) -> dict[str, Call[T]]:
        """Start the calls, by name; return when each has begun, after at most two moments for each."""
        calls: dict[str, Call[T]] = {name: Call(f"{self._what} {name}", timeout_seconds) for name in jobs}
        waiting: deque[tuple[Call[T], Callable[[], T]]] = deque()
        for name, call in calls.items():
            before = self._last.get(name)
            if before is not None and not before.done():
                call.refuse()
            else:
                self._last[name] = call
                waiting.append((call, jobs[name]))
        for idle in [thread for thread in self._threads if not thread.busy][1:]:
            self._threads.remove(idle)
            idle.close()
        while waiting:
            self._run_on_a_thread(waiting)
            left = -1
            while waiting and len(waiting) != left:
                left = len(waiting)
                wait(calls.values(), self._moment_seconds)
        return calls

    def close(self) -> None:
        """End the threads, each when it is idle."""
        for thread in self._threads:
            thread.close()

    def _run_on_a_thread(self, waiting: deque[tuple[Call[T], Callable[[], T]]]) -> None:
        """Let an idle or new thread run what is ``waiting``. If none can start, the first of them fails."""
        thread = next((one for one in self._threads if not one.busy), None) or CallThread(self._what)

        def run() -> None:
            with contextlib.suppress(IndexError):  # the last one is taken
                while True:
                    thread.run(*waiting.popleft())

        try:
            thread.post(run)
        except RuntimeError as error:
            with contextlib.suppress(IndexError):
                waiting.popleft()[0].set_exception(error)
        else:
            if thread not in self._threads:
                self._threads.append(thread)
