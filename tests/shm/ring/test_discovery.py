"""Which rings exist, and whether their writers live."""

from __future__ import annotations

import dataclasses
import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from shm.errors import ConfigurationError
from shm.ring import discovery
from shm.ring.discovery import RingList, pid_namespace, ring_sources, start_ticks, user_number, writer_alive
from shm.ring.reader import RingReader, WriterInfo
from tests.rings import INTERVAL_NS, child, end, finish, line, open_writer


def test_sources_are_the_published_rings_of_the_namespace_sorted(tmp_path: Path) -> None:
    for name in ("ns.system.ring", "ns.node.ring", "ns.half.new", "ns.node.lock", "other.x.ring", "ns.old.corrupt"):
        (tmp_path / f"fogmetrics.{name}").touch()
    (tmp_path / "psm_abc").touch()
    assert ring_sources("ns", tmp_path) == ["node", "system"]
    assert ring_sources("none", tmp_path) == []
    assert ring_sources("ns", tmp_path / "not there") == []


def test_a_list_of_rings_sees_each_change_and_lists_again_only_after_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rings = RingList("ns", tmp_path)
    assert rings.sources() == []
    (tmp_path / "fogmetrics.ns.a.ring").touch()
    assert rings.sources() == ["a"]
    tick_ns = time.time_ns()
    os.utime(tmp_path, ns=(tick_ns, tick_ns))
    assert rings.sources() == ["a"]
    (tmp_path / "fogmetrics.ns.b.ring").touch()
    os.utime(tmp_path, ns=(tick_ns, tick_ns))  # a second change within the same kernel tick
    assert rings.sources() == ["a", "b"]
    os.utime(tmp_path, ns=(0, time.time_ns() - 10**9))
    assert rings.sources() == ["a", "b"]
    monkeypatch.setattr(discovery, "ring_sources", lambda *_: pytest.fail("listed again without a change"))
    assert rings.sources() == ["a", "b"]
    assert RingList("ns", tmp_path / "not there").sources() == []


def test_without_a_descriptor_to_list_the_directory_the_rings_are_those_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rings = RingList("x", tmp_path)
    (tmp_path / "fogmetrics.x.a.ring").touch()
    assert rings.sources() == ["a"]
    (tmp_path / "fogmetrics.x.b.ring").touch()

    def refused(path: object) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refused)
        assert rings.sources() == ["a"]
    assert rings.sources() == ["a", "b"]


def test_users_are_found_by_name_and_number_and_an_unknown_one_is_refused_by_name() -> None:
    assert user_number("") == os.geteuid()
    assert user_number("4242") == 4242
    assert user_number("root") == 0
    with pytest.raises(ConfigurationError, match="'no-such-user', which is no user"):
        user_number("no-such-user")


@pytest.mark.parametrize("owner", ["²", "a\0b"])
def test_what_only_looks_like_a_number_is_no_user(owner: str) -> None:
    with pytest.raises(ConfigurationError, match=r"fog\.toml: \[shm\] owner is .*, which is no user"):
        user_number(owner, "fog.toml: [shm]")


@pytest.mark.parametrize("owner", ["4294967295", "99999999999999999999"])
def test_a_user_beyond_the_last_number_is_refused(owner: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\[shm\] owner is .*, which is out of range; give a name"):
        user_number(owner)


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
    writer = child("hold_writer", namespace)
    line(writer)
    with RingReader(namespace, "s") as reader:
        assert writer_alive(reader.writer, INTERVAL_NS)
        writer.kill()
        os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # dead, and still in the process table
        assert reader.writer.pid == writer.pid
        assert not writer_alive(reader.writer, INTERVAL_NS)
        end(writer)
        assert not writer_alive(reader.writer, INTERVAL_NS)
    orderly = child("hold_writer", namespace)
    line(orderly)
    finish(orderly)
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
