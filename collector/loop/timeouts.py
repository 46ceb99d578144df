"""Runner: a thread for work that may hang, so that the tick loop never does.

A call into the kernel can hang beyond any signal (statvfs on a dead NFS mount); a thread stuck in one can't be
killed, only left behind. So whatever may hang runs here, and the caller waits for as long as it chose. While an
abandoned call is still stuck, the next one is refused at once; when it comes back, its result is dropped and the
runner works again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from shm.errors import FogmetricsError

if TYPE_CHECKING:
    import asyncio

T = TypeVar("T")

# How often a waiting caller looks whether it was told to stop. Work that ends wakes it at once.
_LOOK_SECONDS = 0.1


class Hung(FogmetricsError):
    """The call did not end in its time, or the one before it still has not."""


class Broken(FogmetricsError):
    """The call raised what is no Exception and would end a process: SystemExit, KeyboardInterrupt, CancelledError."""


class Call(Generic[T]):
    """One job, and in the end its result or its error. One thread waits for it."""

    def __init__(self, job: Callable[[], T]) -> None:
        self.job = job
        self.begun = time.monotonic()
        self.done = False
        self.result: T | None = None
        self.error: BaseException | None = None
        # Held until it is done. A bare lock: a threading.Event is Python code around two, all of it cold after the
        # sleep between two ticks.
        self._running = threading.Lock()
        self._running.acquire()

    def run(self, name: str) -> None:
        """Do the job; ``name`` is for messages."""
        try:
            self.result = self.job()
        except Exception as error:  # noqa: BLE001 - handed to the caller, whatever it is
            self.error = error
        except BaseException as error:  # noqa: BLE001 - a failure of the call, no more
            self.error = Broken(f"{name} raised {type(error).__name__}, which would end its process")
        self.done = True  # before it is let go of: who waited for it must find it done
        self._running.release()

    def wait(self, seconds: float) -> bool:
        """Whether it was done within that time."""
        return self.done or self._running.acquire(timeout=seconds)


class Runner:
    """Runs one call at a time in a daemon thread of its own, which starts with the first call."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._calls: SimpleQueue[Call[Any] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._last: Call[Any] | None = None
        self._loop: asyncio.Runner | None = None

    def call(self, job: Callable[[], T], timeout_seconds: float, stop: Callable[[], bool] = lambda: False) -> T:
        """The result of ``job()``, or its exception. Raises Hung past the timeout, or when ``stop()`` says so."""
        return self.wait(self.start(job), timeout_seconds, stop)

    def start(self, job: Callable[[], T]) -> Call[T]:
        """Begin ``job`` without waiting. Raises Hung while the call before is still running."""
        if self._last is not None and not self._last.done:
            raise Hung(f"{self.name} still hangs in an earlier collection")
        if self._thread is None:
            thread = threading.Thread(target=self._run, name=f"runner-{self.name}", daemon=True)
            thread.start()  # RuntimeError where there may be no more threads: then it is tried again the next time
            self._thread = thread
        self._last = call = Call(job)
        self._calls.put(call)
        return call

    def wait(self, call: Call[T], timeout_seconds: float, stop: Callable[[], bool] = lambda: False) -> T:
        """The result of a started call; see :meth:`call`."""
        deadline = time.monotonic() + timeout_seconds
        while not call.wait(min(_LOOK_SECONDS, max(deadline - time.monotonic(), 0))):
            if time.monotonic() >= deadline:
                raise Hung(f"{self.name} did not answer within {time.monotonic() - call.begun:.2g} s")
            if stop():
                raise Hung(f"{self.name} was left in mid-collection, because this process stops")
        if call.error is not None:
            raise call.error
        return call.result  # type: ignore[return-value]  # set before done

    def await_(self, awaitable: Awaitable[T], timeout_seconds: float) -> T:
        """For jobs: run ``awaitable`` on this thread's event loop, which lives as long as the runner.

        asyncio is imported here, so that workers whose source is plain never pay for it.
        """
        import asyncio

        async def bounded() -> T:
            async with asyncio.timeout(timeout_seconds):
                return await awaitable

        if self._loop is None:
            self._loop = asyncio.Runner()
        try:
            return self._loop.run(bounded())
        except TimeoutError:
            raise Hung(f"{self.name} did not answer within {timeout_seconds:g} s") from None

    def stop(self, timeout_seconds: float = 1.0) -> None:
        """End the thread if it is idle; one that hangs is left to the end of the process."""
        if self._thread is not None:
            self._calls.put(None)
            self._thread.join(timeout_seconds)
            self._thread = None

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call.run(self.name)
        if self._loop is not None:
            self._loop.close()
