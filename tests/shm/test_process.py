"""Whether the writer of a ring lives."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import time

import pytest

from shm.process import WriterInfo, pid_namespace, start_ticks, writer_alive
from shm.ring.reader import RingReader
from tests.application import ring_writer
from tests.rings import INTERVAL_NS, open_writer


def test_start_ticks_tell_a_process_from_another_with_its_pid() -> None:
    assert start_ticks(os.getpid()) > 0
    assert start_ticks(1 << 40) == 0
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert start_ticks(sleeper.pid) >= start_ticks(os.getpid())
    sleeper.communicate()
    assert start_ticks(sleeper.pid) == 0


def test_a_writer_is_alive_while_it_runs_and_dead_once_it_ended_or_was_killed_though_nobody_waited(
    namespace: str,
) -> None:
    writer = ring_writer(namespace)
    with RingReader(namespace, "s") as reader:
        assert writer_alive(reader.writer, INTERVAL_NS)
        os.kill(writer.pid, signal.SIGKILL)
        os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the process table
        assert reader.writer.pid == writer.pid
        assert not writer_alive(reader.writer, INTERVAL_NS)
        writer.kill()
        assert not writer_alive(reader.writer, INTERVAL_NS)
    ring_writer(namespace).end()
    with RingReader(namespace, "s") as reader:
        assert reader.writer.pid == 0
        assert not writer_alive(reader.writer, INTERVAL_NS)


def test_a_reused_pid_does_not_pass_for_the_writer(namespace: str) -> None:
    with open_writer(namespace), RingReader(namespace, "s") as reader:
        info = reader.writer
        assert writer_alive(info, INTERVAL_NS)
        assert not writer_alive(dataclasses.replace(info, start_ticks=info.start_ticks + 1), INTERVAL_NS)
        assert not writer_alive(dataclasses.replace(info, start_ticks=0), INTERVAL_NS)


def test_from_another_pid_namespace_a_writer_is_judged_by_its_heartbeat() -> None:
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    elsewhere = WriterInfo(7, 1, pid_namespace() + 1, now)
    assert writer_alive(elsewhere, INTERVAL_NS)
    assert not writer_alive(dataclasses.replace(elsewhere, heartbeat_ns=now - 4 * INTERVAL_NS), INTERVAL_NS)
    assert not writer_alive(dataclasses.replace(elsewhere, heartbeat_ns=now + 4 * INTERVAL_NS), INTERVAL_NS)


def test_a_writer_that_proc_hides_is_judged_by_its_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_permitted(pid: int, signal: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", not_permitted)
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    hidden = WriterInfo(1 << 30, 5, pid_namespace(), now)
    assert writer_alive(hidden, INTERVAL_NS)
    assert not writer_alive(dataclasses.replace(hidden, heartbeat_ns=now - 4 * INTERVAL_NS), INTERVAL_NS)


def test_wild_words_in_the_header_are_a_dead_writer_and_no_error() -> None:
    huge = (1 << 64) - 1
    assert not writer_alive(WriterInfo(huge, huge, huge, huge), INTERVAL_NS)
    assert not writer_alive(WriterInfo(huge, huge, pid_namespace(), huge), INTERVAL_NS)
    assert not writer_alive(WriterInfo(1 << 62, 0, 0, 0), INTERVAL_NS)
