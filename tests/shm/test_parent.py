from __future__ import annotations

import os

from shm.parent import Parent


def test_a_parent_is_watched_only_when_it_is_supervisord() -> None:
    assert Parent({}).pid == 0
    assert not Parent({}).gone
    parent = Parent({"SUPERVISOR_ENABLED": "1"})
    assert parent.pid == os.getppid()
    assert not parent.gone
    parent.pid += 1
    assert parent.gone
