"""A process that may have no more threads, for a moment: as at a limit of processes."""

from __future__ import annotations

import threading

import pytest


def refuse_the_next_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def refused(thread: threading.Thread) -> None:
        monkeypatch.setattr(threading.Thread, "start", start)
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refused)
