from __future__ import annotations

from pathlib import Path

import pytest

from collector.sources.host.files import Files


def test_a_file_is_read_whole_and_anew_each_time(tmp_path: Path) -> None:
    text = "a line of many\n" * 10_000
    (tmp_path / "mounts").write_text(text)
    files = Files(str(tmp_path))
    assert files.text("mounts") == text
    (tmp_path / "mounts").write_bytes(b"\xff\n")
    assert files.text("mounts") == "\ufffd\n"
    (tmp_path / "mounts").unlink()
    with pytest.raises(FileNotFoundError, match="mounts"):
        files.text("mounts")


def test_a_file_that_vanishes_is_an_error_only_where_it_must_be_there(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    (tmp_path / "temp1_input").mkdir()
    assert files.passing("temp1_input") is None
    assert files.passing("temp2_input") is None
    (tmp_path / "temp2_input").write_text("41000\n")
    assert files.passing("temp2_input") == "41000"
