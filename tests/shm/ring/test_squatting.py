"""Another user's files under the names that a writer uses: a sentence, or another name, and never a traceback."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from collector.__main__ import main
from fogmetrics.application.shared_collector import table_of
from shm.errors import NoSpace, RingForeign
from shm.files import DIRECTORY, building_path, lock_path, ring_path, unlink
from shm.metric import Metric
from shm.ring.reader import RingReader
from shm.ring.writer import RingWriter
from shm.table.format import listed
from shm.table.merge import ApplicationReader
from tests.application import cell_of
from tests.rings import append_proof, become, corrupt_path, files_of, in_fork, open_writer, overwrite, sequences

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="gives files to another user: run the tests as root")

OURS, OTHER = 4242, 4243


def squat(path: Path) -> None:
    path.touch()
    path.chmod(0o666)
    os.chown(path, OTHER, OTHER)


def as_ours(work: Callable[[], object]) -> None:
    def run() -> None:
        become(OURS, OURS)
        work()

    in_fork(run)


@pytest.mark.parametrize("name", [building_path, lock_path, ring_path])
def test_a_writer_does_not_start_beside_another_users_file_and_names_it(
    namespace: str, name: Callable[[str, str], Path]
) -> None:
    path = name(namespace, "s")
    squat(path)

    def start() -> None:
        with pytest.raises(RingForeign, match=rf"{path} belongs to user {OTHER}"):
            open_writer(namespace)

    as_ours(start)
    path.unlink()
    as_ours(lambda: open_writer(namespace).close())


def test_a_collector_beside_another_users_file_ends_with_a_sentence_and_75(
    namespace: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FOGMETRICS_NAMESPACE", namespace)
    monkeypatch.delenv("FOGMETRICS_CONFIG", raising=False)
    monkeypatch.chdir("/")
    path = building_path(namespace, "system")
    squat(path)
    statuses = os.memfd_create("statuses")
    as_ours(lambda: os.write(statuses, bytes([main(["system"])])))
    assert os.pread(statuses, 9, 0) == bytes([75])
    os.close(statuses)
    said = [line for line in capfd.readouterr().err.splitlines() if "level=" not in line]
    assert said == [
        f"collector system: ring 'system': {path} belongs to user {OTHER} and can't be replaced: Operation not "
        "permitted; remove it as that user, or choose another namespace"
    ]
    path.unlink()


def while_it_writes(namespace: str, path: Path, after: Callable[[RingWriter], None]) -> None:
    """A writer of ours, beside which another user takes the name ``path`` after a frame."""
    written, squatted = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(written[0], 1)
        path.unlink(missing_ok=True)
        squat(path)
        os.write(squatted[1], b".")
        os._exit(0)

    def write() -> None:
        with open_writer(namespace, columns=2) as writer:
            append_proof(writer)
            os.write(written[1], b".")
            os.read(squatted[0], 1)
            after(writer)

    as_ours(write)
    assert os.waitpid(pid, 0)[1] == 0
    for fd in (*written, *squatted):
        os.close(fd)


def test_a_ring_that_can_not_be_rebuilt_beside_another_users_file_stays_in_use(namespace: str) -> None:
    path = building_path(namespace, "s")

    def grow(writer: RingWriter) -> None:
        with pytest.raises(NoSpace, match=rf"{path} belongs to user {OTHER}"):
            writer.reserve(100)
        append_proof(writer)

    while_it_writes(namespace, path, grow)
    with RingReader(namespace, "s", owner=OURS) as reader:
        assert sequences(reader) == [1, 2]
    path.unlink()


def test_a_ring_whose_name_another_user_has_taken_is_a_sentence(namespace: str) -> None:
    path = ring_path(namespace, "s")

    def notice(writer: RingWriter) -> None:
        with pytest.raises(RingForeign, match=rf"{path} belongs to user {OTHER}"):
            writer.keep_published()

    while_it_writes(namespace, path, notice)
    path.unlink()
    assert [one.suffix for one in files_of(namespace)] == [".lock"]


def test_a_damaged_ring_is_set_aside_under_a_name_that_is_free(namespace: str) -> None:
    as_ours(lambda: open_writer(namespace).close())
    overwrite(ring_path(namespace, "s"), 0, bytes(4096))
    squat(corrupt_path(namespace, "s"))
    as_ours(lambda: open_writer(namespace).close())
    assert [path.suffix for path in files_of(namespace)] == [".corrupt", ".corrupt-1", ".lock", ".ring"]


@pytest.mark.parametrize("ending", ["retired.lock", "retired.new", "retired.table"])
def test_an_application_counts_beside_another_users_files(namespace: str, ending: str) -> None:
    path = DIRECTORY / f"fogmetrics.{namespace}.web.{ending}"
    squat(path)

    def count() -> None:
        for _ in range(2):  # the second finds the first one's table, and would fold it
            in_fork(lambda: cell_of(table_of("web", namespace), Metric("jobs", "counter", "Jobs.")).inc(1.0))

    as_ours(count)
    reader = ApplicationReader(namespace, "web", {OURS})
    assert reader.refresh(listed(namespace, owners={OURS})["web"]).tolist() == [2.0]
    assert reader.errors == {}
    reader.close()
    path.unlink()


def test_root_removes_what_belongs_to_any_user(namespace: str) -> None:
    as_ours(lambda: open_writer(namespace).close())
    unlink(namespace, "s", lock_too=True)
    assert files_of(namespace) == []


def test_root_does_so_too_where_the_kernel_lets_no_one_create_over_another_users_file(
    namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = os.open

    def protected(path: Path, flags: int, mode: int = 0o777) -> int:  # as with fs.protected_regular = 1
        if flags & os.O_CREAT and not flags & os.O_EXCL and os.path.lexists(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, mode)

    as_ours(lambda: open_writer(namespace).close())
    monkeypatch.setattr(os, "open", protected)
    unlink(namespace, "s", lock_too=True)
    assert files_of(namespace) == []
