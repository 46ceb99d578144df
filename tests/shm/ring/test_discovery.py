"""Which rings exist."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from shm.ring.discovery import RingList


def test_sources_are_the_published_rings_of_the_namespace_sorted(tmp_path: Path) -> None:
    for name in ("ns.system.ring", "ns.node.ring", "ns.half.new", "ns.node.lock", "other.x.ring", "ns.old.corrupt"):
        (tmp_path / f"fogmetrics.{name}").touch()
    (tmp_path / "psm_abc").touch()
    assert RingList("ns", tmp_path).sources() == ["node", "system"]
    assert RingList("none", tmp_path).sources() == []
    assert RingList("ns", tmp_path / "not there").sources() == []


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
    monkeypatch.setattr(os, "listdir", lambda *_: pytest.fail("listed again without a change"))
    assert rings.sources() == ["a", "b"]


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
