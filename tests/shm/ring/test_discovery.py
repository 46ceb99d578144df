"""Which rings exist."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from shm.files import rings_in
from shm.ring.discovery import Listing


def test_sources_are_the_published_rings_of_the_namespace_sorted(tmp_path: Path) -> None:
    for name in ("ns.system.ring", "ns.node.ring", "ns.half.new", "ns.node.lock", "other.x.ring", "ns.old.corrupt"):
        (tmp_path / f"fogmetrics.{name}").touch()
    (tmp_path / "psm_abc").touch()
    names = Listing(tmp_path).names()
    assert rings_in(names, "ns") == ["node", "system"]
    assert rings_in(names, "none") == []
    assert Listing(tmp_path / "not there").names() == []


def test_a_listing_sees_each_change_and_lists_again_only_after_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Listing(tmp_path)
    assert sorted(listing.names()) == []
    (tmp_path / "a").touch()
    assert sorted(listing.names()) == ["a"]
    tick_ns = time.time_ns()
    os.utime(tmp_path, ns=(tick_ns, tick_ns))
    assert sorted(listing.names()) == ["a"]
    (tmp_path / "b").touch()
    os.utime(tmp_path, ns=(tick_ns, tick_ns))  # a second change within the same kernel tick
    assert sorted(listing.names()) == ["a", "b"]
    os.utime(tmp_path, ns=(0, time.time_ns() - 10**9))
    assert sorted(listing.names()) == ["a", "b"]
    monkeypatch.setattr(os, "listdir", lambda *_: pytest.fail("listed again without a change"))
    assert sorted(listing.names()) == ["a", "b"]


def test_without_a_descriptor_to_list_the_directory_the_names_are_those_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Listing(tmp_path)
    (tmp_path / "a").touch()
    assert sorted(listing.names()) == ["a"]
    (tmp_path / "b").touch()

    def refused(path: object) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", refused)
        assert sorted(listing.names()) == ["a"]
    assert sorted(listing.names()) == ["a", "b"]
