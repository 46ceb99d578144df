"""Calls that hang cost themselves alone, and are refused until they return."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Iterator

import pytest

from collector.loop.timeouts import CallPool, CallThread, Hung
from tests.failing import raising
from tests.programs import wait_until


def test_a_call_gives_its_result_or_raises_its_error_in_the_caller() -> None:
    thread = CallThread("test")
    assert thread.call(lambda: 6 * 7, 5) == 42
    with pytest.raises(ZeroDivisionError):
        thread.call(lambda: 1 // 0, 5)
    assert thread.call(threading.get_ident, 5) == thread.call(threading.get_ident, 5) != threading.get_ident()
    thread.close()


def test_a_wait_ends_when_the_process_is_to_stop() -> None:
    thread = CallThread("slow")
    go_on = threading.Event()
    with pytest.raises(Hung, match="because this process stops"):
        thread.start(lambda: go_on.wait(30), 30).value(stop=lambda: True)
    go_on.set()
    thread.close()


def test_awaitables_share_one_event_loop_and_are_bounded_by_the_timeout() -> None:
    thread = CallThread("async")

    async def loop() -> int:
        await asyncio.sleep(0)
        return id(asyncio.get_running_loop())

    first = thread.call(lambda: thread.resolve(loop(), 5), 5)
    assert thread.call(lambda: thread.resolve(loop(), 5), 5) == first
    assert thread.call(lambda: thread.resolve("plain", 5), 5) == "plain"
    with pytest.raises(Hung, match=r"async did not answer within 0\.05 s"):
        thread.call(lambda: thread.resolve(asyncio.sleep(30), 0.05), 5)
    thread.close()


def refuse_the_next_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """As at a limit of processes, for a moment."""
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)


# ---- several calls -----------------------------------------------------------------------------------------------


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a hung call waits for; opened at the end, so that no thread is left."""
    event = threading.Event()
    yield event
    event.set()


def hangs(gate: threading.Event) -> Callable[[], str]:
    def job() -> str:
        gate.wait(60)
        return "late"

    return job


def test_calls_that_end_share_one_thread_and_each_has_its_result_or_its_error() -> None:
    threads = set()

    def job() -> int:
        threads.add(threading.get_ident())
        return 7

    pool: CallPool[int] = CallPool("call")
    for _ in range(3):
        found = pool.call({"a": job, "b": raising(OSError("gone")), "c": job}, 5)
        assert list(found) == ["a", "b", "c"]
        assert (found["a"], found["c"]) == (7, 7)
        assert isinstance(found["b"], OSError)
    assert len(threads) == 1
    pool.close()


@pytest.mark.parametrize("calls", [CallThread("call"), CallPool("call")], ids=["thread", "pool"])
def test_no_result_is_kept_longer_than_its_caller_keeps_it(calls: CallThread | CallPool[set[int]]) -> None:
    """A reply may have megabytes, and the next call is an interval away."""
    if isinstance(calls, CallThread):
        kept: weakref.ref[object] = weakref.ref(calls.call(lambda: {1}, 5))
    else:
        kept = weakref.ref(calls.call({"a": lambda: {1}}, 5)["a"])
    wait_until(lambda: kept() is None, 10, "the result to be freed")
    calls.close()


def test_calls_that_hang_are_given_up_together_and_the_others_are_made(gate: threading.Event) -> None:
    pool: CallPool[str] = CallPool("call")
    found = pool.call({"a": hangs(gate), "b": lambda: "b", "c": hangs(gate), "d": lambda: "d"}, 0.3)
    assert isinstance(found["a"], Hung)
    assert "call c did not answer within 0.3 s" in str(found["c"])
    assert (found["b"], found["d"]) == ("b", "d")


def test_a_call_that_hangs_is_refused_at_once_until_it_comes_back(gate: threading.Event) -> None:
    pool: CallPool[str] = CallPool("call")
    pool.call({"a": hangs(gate)}, 0.05)
    made = []

    def again() -> str:
        made.append(1)
        return "new"

    found = pool.call({"a": again, "b": lambda: "b"}, 60)
    assert "call a still hangs in an earlier collection" in str(found["a"])
    assert found["b"] == "b"
    assert not made
    gate.set()
    wait_until(lambda: pool.call({"a": lambda: "new"}, 5)["a"] == "new", 10, "the call to be made again")
    pool.close()


def test_a_slow_call_is_waited_for_and_the_ones_behind_it_do_not_wait() -> None:
    order = []

    def slow() -> str:
        time.sleep(0.3)
        order.append("slow")
        return "slow"

    def quick() -> str:
        order.append("b")
        return "b"

    pool: CallPool[str] = CallPool("call")
    found = pool.call({"a": slow, "b": quick}, 10)
    assert found == {"a": "slow", "b": "b"}
    assert order == ["b", "slow"]
    pool.close()


def test_slow_calls_leave_no_more_threads_than_hang(gate: threading.Event) -> None:
    pool: CallPool[str] = CallPool("bounded call", moment_seconds=0.001)

    def threads() -> int:
        return sum("bounded call" in thread.name for thread in threading.enumerate())

    def slow() -> str:
        time.sleep(0.02)
        return "slow"

    pool.call({"hangs": hangs(gate)}, 0.05)
    for _ in range(5):
        pool.call({"hangs": hangs(gate), "a": slow, "b": slow, "c": slow}, 10)
    pool.call({"a": lambda: "quick"}, 10)
    wait_until(lambda: threads() <= 2, 10, "the threads of slow calls to end, but for the shared one")
    gate.set()
    pool.close()
    wait_until(lambda: threads() == 0, 10, "the abandoned thread to end with its call")


def test_a_call_without_a_thread_costs_itself_alone(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    pool: CallPool[str] = CallPool("call", moment_seconds=0.01)

    def hangs_and_then_none() -> str:
        refuse_the_next_thread(monkeypatch)  # that of the call behind this one
        gate.wait(60)
        return "late"

    found = pool.call({"hangs": hangs_and_then_none, "none": lambda: "none", "well": lambda: "well"}, 0.3)
    assert isinstance(found["hangs"], Hung)
    assert isinstance(found["none"], RuntimeError)
    assert found["well"] == "well", "the next call tries again"
    # What hung is known, and not asked a second time.
    assert "still hangs in an earlier" in str(pool.call({"hangs": lambda: "again"}, 5)["hangs"])
