from __future__ import annotations

import errno
import os

import pytest

from fogmetrics.parent import Parent
from tests.failing import raising
from tests.orphans import watched


def test_a_parent_is_watched_only_when_it_is_supervisord() -> None:
    assert Parent({}).pid == 0
    assert not Parent({}).gone
    assert Parent({}).fd == -1
    parent = Parent({"SUPERVISOR_ENABLED": "1"})
    assert parent.pid == os.getppid()
    assert not parent.gone
    parent.pid += 1
    assert parent.gone


def test_a_system_without_such_descriptors_is_looked_at_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pidfd_open", raising(OSError(errno.ENOSYS, "Function not implemented")))
    assert Parent({"SUPERVISOR_ENABLED": "1"}).fd == -1


_LATE = """
import os, time
parent = os.getppid()
print("begins", flush=True)
while os.getppid() == parent: time.sleep(0.01)
from fogmetrics.parent import Parent
print(Parent().gone if os.getppid() == 1 else "adopted", flush=True)
"""
_WATCHER = """
import select
from fogmetrics.parent import Parent
parent = Parent()
print("watching", parent.gone, select.select([parent.fd], [], [], 0)[0], flush=True)
select.select([parent.fd], [], [])
print("ended", flush=True)
"""


def test_the_descriptor_tells_the_end_of_the_parent_when_it_comes() -> None:
    with watched(_WATCHER) as (supervisord, output):
        assert output.readline() == "watching False []\n"
        supervisord.kill()
        assert output.readline() == "ended\n"


def test_a_supervisord_that_died_before_we_looked_is_gone() -> None:
    """A process takes a moment to begin; whoever is killed in it must be missed all the same."""
    with watched(_LATE) as (supervisord, output):
        assert output.readline() == "begins\n"
        supervisord.kill()
        assert output.readline() in ("True\n", "adopted\n")  # by a subreaper, of which nothing can be told
