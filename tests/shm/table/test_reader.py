"""Tables as files: names, what is refused when one is read, who lives, removal."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from shm import catalog
from shm.errors import RingCorrupt, RingError, RingForeign, RingLayout, RingMissing, WriterBusy
from shm.metric import Metric
from shm.ring.layout import HEADER_BYTES
from shm.ring.protocol import header_seal
from shm.table import descriptors
from shm.table import format as tables
from shm.table import reader as table_reader
from shm.table.descriptors import unlink
from shm.table.format import TableHeader, files_of, identity, listed, read_header
from shm.table.process import ProcessTable
from shm.table.reader import OpenTables, TableReader
from tests.application import Process, cell_of
from tests.rings import namespace as namespace
from tests.rings import overwrite

COUNTER = Metric("requests", "counter", "Requests.")


@pytest.fixture
def path(namespace: str) -> Path:
    """Of the table of a process that ended."""
    table = ProcessTable(namespace, "web")
    cell_of(table, COUNTER).inc(7.0)
    table.close()
    [path] = files_of(namespace, "web")
    return path


def opened(namespace: str, owners: set[int] | None = None) -> TableReader:
    [who] = listed(namespace)["web"]
    return TableReader(namespace, "web", who, {os.geteuid()} if owners is None else owners)


def test_a_table_is_read_as_it_was_written(namespace: str, path: Path) -> None:
    reader = opened(namespace)
    reader.refresh()
    assert [one.metric for one in reader.catalog.series] == [COUNTER]
    assert reader.values().tolist() == [7.0]
    assert (reader.header.application, reader.header.pid) == ("web", os.getpid())
    assert reader.in_place()
    path.unlink()
    assert not reader.in_place()
    reader.close()


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("fogmetrics.ns.web.12-00000000000000ff.table", {"web": ["12-00000000000000ff"]}),
        ("fogmetrics.ns.web.retired.table", {"web": ["retired"]}),
        ("fogmetrics.ns.web.12-00000000000000ff.new", {}),
        ("fogmetrics.other.web.12-00000000000000ff.table", {}),
        ("fogmetrics.ns.web.ring", {}),
        ("fogmetrics.ns.web.12-ff.table", {}),
        ("fogmetrics.ns.we b.12-00000000000000ff.table", {}),
        ("fogmetrics.ns.web.x.12-00000000000000ff.table", {}),
    ],
)
def test_which_files_are_tables(name: str, found: dict[str, list[str]]) -> None:
    assert listed("ns", [name]) == found


def flip(path: Path, at: int, count: int = 1) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        data = bytes(byte ^ 0xFF for byte in file.read(count))
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize(
    ("at", "said"),
    [(0, "magic is 0x"), (8, "layout version is 254, this program reads 1"), (16, "header seal is 0x"),
     *((at, "the header's bytes give another") for at in range(24, 160, 8))],
)  # fmt: skip
def test_a_header_that_is_damaged_is_refused(namespace: str, path: Path, at: int, said: str) -> None:
    flip(path, at)
    with pytest.raises(RingCorrupt, match=said):
        opened(namespace)


def sealed(header: TableHeader, **changed: object) -> bytes:
    changed_header = dataclasses.replace(header, **changed)  # type: ignore[arg-type]
    return (b"FOGTABL1" + changed_header.behind_magic()).ljust(HEADER_BYTES, b"\0")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"width": 0}, "width of a table is 0"),
        ({"width": 1 << 21}, "width of a table is 2097152"),
        ({"catalog_bytes": 0}, "catalog of a table has 0 bytes"),
        ({"catalog_bytes": 63}, "catalog of a table has 63 bytes"),
        ({"width": 64}, "its layout gives 4672, the file has 4616"),
    ],
)
def test_a_header_that_is_sealed_and_wrong_is_refused(changed: dict[str, object], said: str) -> None:
    header = TableHeader("web", 57, 64, 1, 2, 3)
    assert read_header("web", sealed(header), header.file_bytes) == header
    with pytest.raises(RingCorrupt, match=said):
        read_header("web", sealed(header, **changed), header.file_bytes)


def test_a_header_of_bytes_that_are_no_name_or_too_few_is_refused() -> None:
    header = TableHeader("web", 8, 64, 1, 2, 3)
    immutable = header.immutable()[:72] + b"\xff" * 64
    start = b"".join(word.to_bytes(8, "little") for word in (tables.MAGIC, 1, header_seal(immutable)))
    with pytest.raises(RingCorrupt, match="not UTF-8"):
        read_header("web", (start + immutable).ljust(HEADER_BYTES, b"\0"), header.file_bytes)
    with pytest.raises(RingCorrupt, match="has 100 bytes, less than"):
        read_header("web", bytes(100), 100)
    with pytest.raises(RingLayout):
        read_header("web", start[:8] + (2).to_bytes(8, "little") + bytes(HEADER_BYTES), header.file_bytes)


@pytest.mark.parametrize("size", [100, 4096, 10_000, 20_000])
def test_a_table_of_another_size_is_refused(namespace: str, path: Path, size: int) -> None:
    os.truncate(path, size)
    with pytest.raises(RingCorrupt):
        opened(namespace)


def test_a_sparse_table_is_refused_before_its_catalog_is_read(namespace: str, path: Path) -> None:
    header = TableHeader("web", 64, 300 << 20, 1, os.getpid(), int(path.name.split("-")[-1][:16], 16))
    path.write_bytes(sealed(header))
    os.truncate(path, header.file_bytes)
    with pytest.raises(RingCorrupt, match=rf"has holes: 4096 bytes are allocated of {header.file_bytes}"):
        opened(namespace)


def opens(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The tables that are opened from now on."""
    opened: list[Path] = []

    def open_table(path: Path) -> int:
        opened.append(path)
        return descriptors.open_table(path)

    monkeypatch.setattr(table_reader, "open_table", open_table)
    return opened


def test_a_table_that_is_refused_is_tried_again_ever_less_often_until_it_changes(
    namespace: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [who] = listed(namespace)["web"]
    tables, opened = OpenTables(namespace, "web", {os.geteuid()}), opens(monkeypatch)
    flip(path, 24)
    for _ in range(100):
        with pytest.raises(RingCorrupt, match="header seal"):
            tables.refreshed(who)
    assert len(opened) == 7  # after 0, 1, 3, 7, 15, 31 tries that were left out
    flip(path, 24)
    assert tables.refreshed(who).values().tolist() == [7.0]
    tables.close()


def test_a_catalog_that_is_damaged_is_read_again_ever_less_often_until_it_grows(
    namespace: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flip(path, HEADER_BYTES + 20)
    reader = opened(namespace)
    tries: list[int] = []
    whole = catalog.extend_in_pieces

    def extend_in_pieces(*arguments: Any) -> None:
        tries.append(1)
        whole(*arguments)

    monkeypatch.setattr(catalog, "extend_in_pieces", extend_in_pieces)
    for _ in range(100):
        reader.refresh()
        assert "does not hold its seal" in reader.catalog.error
    assert len(tries) == 7
    flip(path, HEADER_BYTES + 20)
    overwrite(path, tables.CATALOG_USED, b"\xff")
    reader.refresh()
    assert (len(tries), len(reader.catalog.series)) == (8, 1)
    reader.close()


def test_one_that_is_cut_under_its_reader_says_so(namespace: str, path: Path) -> None:
    reader = opened(namespace)
    reader.refresh()
    os.truncate(path, 8192)
    with pytest.raises(RingCorrupt, match="was cut short"):
        reader.values()
    reader.close()


def test_a_catalog_entry_that_is_damaged_ends_what_is_known(namespace: str, path: Path) -> None:
    flip(path, HEADER_BYTES + 20)
    reader = opened(namespace)
    reader.refresh()
    assert "does not hold its seal" in reader.catalog.error
    assert reader.values().tolist() == []
    reader.close()


def test_a_table_of_a_user_who_is_not_trusted_is_refused(namespace: str, path: Path) -> None:
    with pytest.raises(RingForeign, match=rf"belongs to user {os.geteuid()}, which is not trusted"):
        opened(namespace, {12345})


def test_a_table_of_another_name_than_its_own_is_refused(namespace: str, path: Path) -> None:
    path.rename(path.with_name(path.name.replace(".web.", ".other.")))
    with pytest.raises(RingCorrupt, match="the table is of 'web'"):
        TableReader(namespace, "other", listed(namespace)["other"][0], {os.geteuid()})
    assert "web" not in listed(namespace)


@pytest.mark.parametrize(
    "put", [os.mkfifo, Path.mkdir, lambda path: path.symlink_to("/etc/passwd")], ids=["fifo", "directory", "link"]
)
def test_what_is_no_file_is_refused(namespace: str, path: Path, put: Callable[[Path], None]) -> None:
    path.unlink()
    put(path)
    with pytest.raises(RingForeign):
        opened(namespace)
    if put is Path.mkdir:
        path.rmdir()


def test_a_table_that_is_gone_is_missing(namespace: str, path: Path) -> None:
    path.unlink()
    with pytest.raises(RingMissing):
        TableReader(namespace, "web", identity(1, 1), {os.geteuid()})


# ---- who lives -----------------------------------------------------------------------------------------------


@pytest.fixture
def process(namespace: str) -> Iterator[Process]:
    with Process(namespace) as process:
        yield process


def test_a_process_lives_until_it_dies_however_that_comes(namespace: str, process: Process) -> None:
    reader = opened(namespace)
    assert reader.alive()
    process.kill()
    assert not reader.alive()
    reader.close()


def test_an_application_that_runs_is_not_removed_and_one_that_does_not_is(namespace: str, process: Process) -> None:
    with pytest.raises(WriterBusy, match=f"process {process.pid}"):
        unlink(namespace, "web")
    assert files_of(namespace, "web")
    process.kill()
    assert tables.applications_of(namespace) == ["web"]
    [removed] = unlink(namespace, "web")
    assert removed.suffix == ".table"
    [lock] = unlink(namespace, "web", lock_too=True)
    assert lock.suffix == ".lock"
    assert tables.applications_of(namespace) == []


def test_every_error_names_the_application(namespace: str, path: Path) -> None:
    flip(path, 0)
    with pytest.raises(RingError) as caught:
        opened(namespace)
    assert caught.value.ring == "web"
