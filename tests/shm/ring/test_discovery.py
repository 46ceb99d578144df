"""Which rings exist."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from shm.files import rings_in
from shm.ring import discovery
from shm.ring.discovery import Listing, TrustedFiles, foreign_files


def test_sources_are_the_published_rings_of_the_namespace_sorted(tmp_path: Path) -> None:
    for name in ("ns.system.ring", "ns.node.ring", "ns.half.new", "ns.node.lock", "other.x.ring", "ns.old.corrupt"):
        (tmp_path / f"fogmetrics.{name}").touch()
    (tmp_path / "psm_abc").touch()
    names = Listing(tmp_path).names()
    assert rings_in(names, "ns") == ["node", "system"]
    assert rings_in(names, "none") == []
    assert Listing(tmp_path / "not there").names() == {}


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
    monkeypatch.setattr(os, "scandir", lambda *_: pytest.fail("listed again without a change"))
    assert sorted(listing.names()) == ["a", "b"]


def test_without_a_descriptor_to_list_the_directory_the_names_are_those_of_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = Listing(tmp_path)
    (tmp_path / "a").touch()
    assert sorted(listing.names()) == ["a"]
    (tmp_path / "b").touch()

    def refused(path: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refused)
        assert sorted(listing.names()) == ["a"]
    assert sorted(listing.names()) == ["a", "b"]


# ---- owners ------------------------------------------------------------------------------------------------------

OTHER = 4242


@pytest.fixture
def owners(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """The owners of files by name, this user where none is set; only root could give files away."""
    found: dict[str, int] = {}
    look = discovery.owner_of

    def owner_of(path: str) -> int | None:
        owner = look(path)
        return None if owner is None else found.get(Path(path).name, owner)

    monkeypatch.setattr(discovery, "owner_of", owner_of)
    return found


def files(directory: Path, *names: str) -> list[str]:
    made = [f"fogmetrics.ns.{name}.ring" for name in names]
    for name in made:
        (directory / name).touch()
    return made


def test_files_of_users_who_are_not_trusted_are_counted_and_forgotten_with_the_files(
    tmp_path: Path, owners: dict[str, int]
) -> None:
    node, evil = files(tmp_path, "node", "evil")
    (tmp_path / "fogmetrics.other.x.ring").touch()
    (tmp_path / "fogmetrics.ns.node.lock").touch()
    owners[evil] = OTHER
    found = TrustedFiles("ns", ".ring", {os.geteuid()}, tmp_path)
    assert found.names() == [node]
    assert found.foreign == {evil: OTHER}
    assert foreign_files(found).startswith(
        f"1 file of this namespace in /dev/shm left out, such as '{evil}' of user 4242"
    )
    (tmp_path / evil).unlink()
    assert found.names() == [node]
    assert (found.foreign, foreign_files(found)) == ({}, "")


def test_the_owner_of_a_file_is_looked_at_once_and_again_when_another_file_has_its_name(
    tmp_path: Path, owners: dict[str, int]
) -> None:
    node, evil = files(tmp_path, "node", "evil")
    found = TrustedFiles("ns", ".ring", {os.geteuid()}, tmp_path)
    before = found.names()
    assert before == [evil, node]
    owners[evil] = OTHER  # of the next file of that name
    os.utime(tmp_path)
    assert found.names() is before
    (tmp_path / "next").touch()
    (tmp_path / "next").rename(tmp_path / evil)
    assert found.names() == [node]
    owners[evil] = os.geteuid()  # as by chown, which changes no directory
    assert found.names() == [evil, node]


def test_what_is_looked_at_is_bounded_and_costs_no_file_that_was_found(
    tmp_path: Path, owners: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    [node] = files(tmp_path, "node")
    found = TrustedFiles("ns", ".ring", {os.geteuid()}, tmp_path)
    assert found.names() == [node]
    monkeypatch.setattr(discovery, "MOST_NAMES", 10)
    owners.update(dict.fromkeys(files(tmp_path, *(f"evil-{i}" for i in range(100))), OTHER))
    for _ in range(3):
        (tmp_path / "changed").touch()
        assert found.names() == [node]
        assert len(found.foreign) <= 10
        (tmp_path / "changed").unlink()
    (tmp_path / node).unlink()
    assert found.names() == []
    found.close()


def test_no_number_of_files_hides_a_trusted_one_that_was_there_before_or_comes_later(
    tmp_path: Path, owners: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(discovery, "MOST_NAMES", 10)
    for i in range(45):
        (tmp_path / f"of-another-program-{i}").touch()
    [node] = files(tmp_path, "node")
    owners.update(dict.fromkeys(files(tmp_path, *(f"evil-{i}" for i in range(45))), OTHER))
    found = TrustedFiles("ns", ".ring", {os.geteuid()}, tmp_path)
    assert found.names() == [node]  # from the first call, as of an exporter that was restarted
    [new] = files(tmp_path, "new")
    for calls in range(3 * 92 // 10):  # a pass may be under way, and the files come in any order
        seen = found.names()
        assert len(found.foreign) <= 10
        if calls == 3:
            [newer] = files(tmp_path, "newer")  # perhaps behind where this pass is
    assert seen == [new, newer, node]
    found.close()
