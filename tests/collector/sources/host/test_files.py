from __future__ import annotations

import os
from pathlib import Path

import pytest

from collector.sources.host.files import Files


def test_a_file_longer_than_one_read_is_read_whole_and_anew_each_time(tmp_path: Path) -> None:
    text = "a line of many\n" * 10_000
    (tmp_path / "mounts").write_text(text)
    files = Files(str(tmp_path))
    assert files.text("mounts") == text
    (tmp_path / "mounts").write_bytes(b"\xff\n")
    assert files.text("mounts") == "\ufffd\n"
    files.close()


def test_a_file_that_fails_is_opened_anew(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    (tmp_path / "meminfo").mkdir()
    with pytest.raises(IsADirectoryError):
        files.text("meminfo")
    (tmp_path / "meminfo").rmdir()
    with pytest.raises(FileNotFoundError, match="meminfo"):
        files.text("meminfo")
    (tmp_path / "meminfo").write_text("now a file")
    assert files.text("meminfo") == "now a file"
    files.close()


def test_files_stay_open_until_they_are_closed_and_reading_goes_on_after_that() -> None:
    files = Files("/proc")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        files.text("stat")
        files.text("meminfo")
        assert len(os.listdir("/proc/self/fd")) == before + 2
    files.close()
    assert len(os.listdir("/proc/self/fd")) == before
    assert files.text("stat").startswith("cpu ")
    files.close()
