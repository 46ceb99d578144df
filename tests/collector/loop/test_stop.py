from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from collector.loop.stop import SIGNALS, Stop
from fogmetrics.parent import Parent
from tests.daemon import ROOT
from tests.orphans import watched


@pytest.fixture
def stop() -> Iterator[Stop]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    made = Stop(Parent({}))
    made.catch_signals()
    yield made
    made.close()
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_sleep_and_is_remembered(stop: Stop, number: signal.Signals) -> None:
    assert not stop.asked()
    os.kill(os.getpid(), number)
    assert stop.sleep_until(time.monotonic_ns() + 3_600_000_000_000)
    assert stop.asked()


def test_a_deadline_in_the_past_is_no_sleep_and_no_stop(stop: Stop) -> None:
    assert not stop.sleep_until(time.monotonic_ns() - 1)
    assert not stop.sleep_until(time.monotonic_ns() + 1_000_000)


_SLEEPER = """
import time
from collector.loop import stop
stop._PARENT_CHECK_NS = 3_600_000_000_000
one = stop.Stop()
print("sleeps", flush=True)
print(one.sleep_until(time.monotonic_ns() + 3_600_000_000_000), flush=True)
"""


def test_the_end_of_the_supervisord_that_started_us_ends_a_sleep_at_once() -> None:
    with watched(_SLEEPER) as (supervisord, output):
        assert output.readline() == "sleeps\n"
        supervisord.kill()
        assert output.readline() == "True\n"


def test_where_nothing_tells_of_its_end_a_sleeper_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    parent = Parent({"SUPERVISOR_ENABLED": "1"})
    orphan = Stop(parent)
    looked: list[float] = []

    def wait(*arguments: Any) -> tuple[list[int], list[int], list[int]]:
        looked.append(arguments[3])
        parent.pid += 1
        return [], [], []

    monkeypatch.setattr(select, "select", wait)
    assert orphan.sleep_until(time.monotonic_ns() + 3_600_000_000_000)
    assert looked == [5.0]
    orphan.close()


def test_processes_that_a_source_starts_can_be_stopped() -> None:
    """With signals blocked, as sigtimedwait wants them, a child would inherit that and never end."""
    code = (
        "import subprocess; from collector.loop.stop import Stop; Stop().catch_signals(); "
        "p = subprocess.Popen(['sleep', '60']); p.terminate(); print(p.wait())"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert run.stdout == "-15\n", run.stderr
