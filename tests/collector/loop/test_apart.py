"""Calls that hang cost themselves alone, and are refused until they come back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from collector.loop.apart import Apart
from collector.loop.timeouts import Hung
from tests.collector.crowded import refuse_the_next_thread
from tests.programs import wait_until


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

    def fails() -> int:
        raise OSError("gone")

    apart: Apart[int] = Apart("call")
    for _ in range(3):
        found = apart.call({"a": job, "b": fails, "c": job}, 5)
        assert list(found) == ["a", "b", "c"]
        assert (found["a"], found["c"]) == (7, 7)
        assert isinstance(found["b"], OSError)
    assert len(threads) == 1
    apart.close()


def test_calls_that_hang_are_given_up_together_and_the_others_are_made(gate: threading.Event) -> None:
    apart: Apart[str] = Apart("call")
    found = apart.call({"a": hangs(gate), "b": lambda: "b", "c": hangs(gate), "d": lambda: "d"}, 0.3)
    assert isinstance(found["a"], Hung)
    assert "call c did not answer within 0.3 s" in str(found["c"])
    assert (found["b"], found["d"]) == ("b", "d")


def test_a_call_that_hangs_is_refused_at_once_until_it_comes_back(gate: threading.Event) -> None:
    apart: Apart[str] = Apart("call")
    apart.call({"a": hangs(gate)}, 0.05)
    made = []

    def again() -> str:
        made.append(1)
        return "new"

    found = apart.call({"a": again, "b": lambda: "b"}, 60)
    assert "call a still hangs in an earlier reading" in str(found["a"])
    assert found["b"] == "b"
    assert not made
    gate.set()
    wait_until(lambda: apart.call({"a": lambda: "new"}, 5)["a"] == "new", 10, "the call to be made again")
    apart.close()


def test_a_slow_call_is_waited_for_and_the_ones_behind_it_do_not_wait() -> None:
    order = []

    def slow() -> str:
        time.sleep(0.3)
        order.append("slow")
        return "slow"

    def quick() -> str:
        order.append("b")
        return "b"

    apart: Apart[str] = Apart("call")
    found = apart.call({"a": slow, "b": quick}, 10)
    assert found == {"a": "slow", "b": "b"}
    assert order == ["b", "slow"]
    apart.close()


def test_calls_wait_for_the_one_before_as_long_as_a_moment_is() -> None:
    threads = set()

    def slow() -> None:
        threads.add(threading.get_ident())
        time.sleep(0.1)

    apart: Apart[None] = Apart("call", moment_seconds=30.0)
    assert apart.call({"a": slow, "b": slow}, 60) == {"a": None, "b": None}
    assert len(threads) == 1
    apart.close()


def test_a_call_without_a_thread_costs_itself_alone(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    apart: Apart[str] = Apart("call", moment_seconds=0.01)

    def hangs_and_then_none() -> str:
        refuse_the_next_thread(monkeypatch)  # that of the call behind this one
        gate.wait(60)
        return "late"

    found = apart.call({"hangs": hangs_and_then_none, "none": lambda: "none", "well": lambda: "well"}, 0.3)
    assert isinstance(found["hangs"], Hung)
    assert isinstance(found["none"], RuntimeError)
    assert found["well"] == "well"
    # What hung is known, and not asked a second time.
    assert "still hangs in an earlier" in str(apart.call({"hangs": lambda: "again"}, 5)["hangs"])
