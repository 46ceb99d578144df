"""What ``fogmetrics run`` does before it becomes supervisord. tests/end_to_end runs it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from collector.source import MetricSource, Sample
from fogmetrics.cli import run
from fogmetrics.cli.init import write as init
from tests.failing import raising
from tests.programs import free_port

_made = 0


class Queue(MetricSource):
    name = "queue"
    metrics = ()

    def __init__(self) -> None:
        global _made
        _made += 1

    def collect(self) -> list[Sample]:
        return []


class Became(Exception):
    """The process is supervisord."""


def test_the_configuration_is_read_and_each_source_is_built_once(
    tmp_path: Path, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    init(tmp_path)
    (tmp_path / "fogmetrics.toml").write_text(
        f'[shm]\nnamespace = "{namespace}"\n[exporter]\nport = {free_port()}\n'
        f'[source.queue]\nclass = "{__name__}:Queue"\n'
    )
    for name in ("FOGMETRICS_CONFIG", "FOGMETRICS_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(run, "report_in_background", lambda directory: None)
    monkeypatch.setattr(os, "execve", raising(Became()))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Became):
        run.main([str(tmp_path)])
    assert _made == 1
    assert "[program:queue]" in (tmp_path / "run" / "programs.conf").read_text()
