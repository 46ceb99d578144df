"""One file, whatever lies under its name: R1 to R4 of reading.py."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest

from collector.sources.textfile import reading
from collector.sources.textfile.reading import Refused


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.prom"


def test_a_regular_file_is_read_whole_also_through_a_link(path: Path, tmp_path: Path) -> None:
    path.write_text("x 1\n" * 1000)
    link = tmp_path / "b.prom"
    link.symlink_to(path)
    assert reading.read(str(link), 4000)[1] == "x 1\n" * 1000
    assert reading.state_of(str(link), 4000) == reading.read(str(path), 4000)[0]


# ---- R1: nothing but a regular file is opened --------------------------------------------------------------------


def test_what_is_no_regular_file_is_refused_by_its_kind(path: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "null").symlink_to("/dev/null")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        for name, kind in (
            ("fifo", "a FIFO"),
            ("directory", "a directory"),
            ("null", "a device"),
            ("socket", "a socket"),
        ):
            with pytest.raises(Refused, match=f"it is {kind}, and only regular files"):
                reading.state_of(str(tmp_path / name), 100)
    path.symlink_to(tmp_path / "nowhere")
    with pytest.raises(Refused, match="a symbolic link to a missing file"):
        reading.state_of(str(path), 100)
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(Refused, match="Too many levels of symbolic links"):
        reading.state_of(str(path), 100)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        reading.state_of(str(path), 100)
    with pytest.raises(FileNotFoundError):
        reading.read(str(path), 100)


# ---- R2: a FIFO that took the name meanwhile does not hold the collector ----------------------------------------


def test_a_fifo_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path)
    with pytest.raises(Refused, match="it is a FIFO"):
        reading.read(str(path), 100)


# ---- R3: size ----------------------------------------------------------------------------------------------------


def test_a_file_is_as_large_as_allowed_and_no_larger(path: Path) -> None:
    path.write_text("x 1\n")
    assert reading.read(str(path), 4)[1] == "x 1\n"
    for look in (reading.state_of, reading.read):
        with pytest.raises(Refused, match="it has 4 bytes, more than 3; make it smaller, or raise"):
            look(str(path), 3)


def test_no_more_is_read_of_one_that_grows_without_end(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("x 1\n")
    taken = []

    def endless(fd: int, size: int) -> bytes:
        taken.append(size)
        assert len(taken) < 100
        return b"x" * min(size, 10)

    monkeypatch.setattr(os, "read", endless)
    with pytest.raises(Refused, match="written to while it was read"):
        reading.read(str(path), 50)
    assert sum(min(size, 10) for size in taken) == 51


# ---- R4: one text, not halves of two -----------------------------------------------------------------------------


def _while_read(monkeypatch: pytest.MonkeyPatch, happens: Any) -> None:
    real = os.read
    again = iter([happens])

    def read(fd: int, size: int) -> bytes:
        part = real(fd, size)
        next(again, lambda: None)()
        return part

    monkeypatch.setattr(os, "read", read)


def test_one_that_is_written_to_meanwhile_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("x 1\n")
    os.utime(path, (1, 1))
    _while_read(monkeypatch, lambda: path.write_text("x 2\n"))
    with pytest.raises(Refused, match="written to while it was read; write under another name, then rename"):
        reading.read(str(path), 100)
    assert reading.read(str(path), 100)[1] == "x 2\n"


def test_one_that_is_replaced_meanwhile_is_read_whole_either_way(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text("x 1\n" * 10)
    new = path.with_suffix(".new")
    new.write_text("y 2\n")
    _while_read(monkeypatch, lambda: new.rename(path))
    assert reading.read(str(path), 100)[1] == "x 1\n" * 10
    assert reading.read(str(path), 100)[1] == "y 2\n"


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_what_is_not_utf8_is_named_with_its_line(path: Path, mark: bytes) -> None:
    path.write_bytes(mark + b"x 1\ny \xff\n")
    with pytest.raises(Refused, match="line 2: the byte 0xff is not UTF-8"):
        reading.read(str(path), 100)


def test_a_byte_order_mark_belongs_to_no_line(path: Path) -> None:
    path.write_bytes(b"\xef\xbb\xbfx 1\n")
    assert reading.read(str(path), 100)[1] == "x 1\n"


def test_one_that_may_not_be_read_says_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    path.write_text("x 1\n")
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        with pytest.raises(Refused, match="it can't be opened: Permission denied; let the collector's user"):
            reading.read(str(path), 100)
    monkeypatch.setattr(os, "stat", refused)
    with pytest.raises(Refused, match="stat fails: Permission denied"):
        reading.state_of(str(path), 100)
