from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from collector.loop.timeouts import Hung, Runner
from tests.collector.crowded import refuse_the_next_thread


def test_a_call_gives_its_result_or_raises_its_error_in_the_caller() -> None:
    runner = Runner("test")
    assert runner.call(lambda: 6 * 7, 5) == 42
    with pytest.raises(ZeroDivisionError):
        runner.call(lambda: 1 // 0, 5)
    assert runner.call(threading.get_ident, 5) == runner.call(threading.get_ident, 5) != threading.get_ident()
    runner.stop()


def test_a_call_that_hangs_is_left_behind_the_next_refused_and_after_it_the_runner_works_again() -> None:
    runner = Runner("dead mount")
    go_on, gone_on = threading.Event(), threading.Event()

    def hang() -> str:
        go_on.wait(30)
        gone_on.set()
        return "late"

    with pytest.raises(Hung, match=r"dead mount did not answer within 0\.\d+ s"):
        runner.call(hang, 0.05)
    with pytest.raises(Hung, match="still hangs in an earlier collection"):
        runner.call(lambda: "new", 5)
    go_on.set()
    assert gone_on.wait(5)
    for _ in range(1000):  # until the thread has marked the late call as done
        try:
            assert runner.call(lambda: "new", 5) == "new"
            break
        except Hung:
            threading.Event().wait(0.005)
    else:
        pytest.fail("the runner never worked again")
    runner.stop()


def test_a_wait_ends_when_the_process_is_to_stop() -> None:
    runner = Runner("slow")
    go_on = threading.Event()
    with pytest.raises(Hung, match="because this process stops"):
        runner.call(lambda: go_on.wait(30), 30, stop=lambda: True)
    go_on.set()
    runner.stop()


def test_awaitables_share_one_event_loop_and_are_bounded_by_the_timeout() -> None:
    runner = Runner("async")

    async def loop() -> int:
        await asyncio.sleep(0)
        return id(asyncio.get_running_loop())

    first = runner.call(lambda: runner.await_(loop(), 5), 5)
    assert runner.call(lambda: runner.await_(loop(), 5), 5) == first
    with pytest.raises(Hung, match=r"async did not answer within 0\.05 s"):
        runner.call(lambda: runner.await_(asyncio.sleep(30), 0.05), 5)
    runner.stop()


def test_a_runner_without_awaitables_does_not_import_asyncio() -> None:
    code = (
        "import sys; from collector.loop.timeouts import Runner; r = Runner('x'); r.call(int, 5); r.stop(); "
        "sys.exit('asyncio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0


def test_where_no_thread_can_be_started_the_next_call_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner("crowded")
    refuse_the_next_thread(monkeypatch)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        runner.call(lambda: "never", 5)
    runner.stop()
    assert runner.call(lambda: "then", 5) == "then"
    runner.stop()
