"""Attack I8, the exporter can't write: the real exporter as another user, ended in every way, and as the rings' user.

:mod:`tests.siege.reader.intruder` tries what else a process with the exporter's rights could do.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from shm.ring.writer import RingWriter
from tests import http_client
from tests.programs import Program, free_port, listens, running
from tests.rings import files_of, open_writer, proof
from tests.siege.harness import ROOT, Counts, Effort, Mutant, own_namespace, require
from tests.siege.processes import UNABLE, as_user, ask
from tests.siege.reader.intruder import held

# Numbers that no host's users and groups have. The group may read; the user has no other right.
_USER, _GROUP, _OTHER_GROUP = 64_123, 64_124, 64_125
_COLUMNS = 300
_ENDINGS = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSEGV, signal.SIGABRT)
_WAIT_SECONDS = 60.0
_PAGES = ("/metrics", "/metrics/aggregated?window=1h", "/stats", "/health")


def check(effort: Effort) -> Counts:
    if os.geteuid():
        pytest.skip("it must be root, to run the exporter as another user")
    chance = effort.random()
    runs = effort.many(len(_ENDINGS), 150)
    done: Counter[str] = Counter()
    with own_namespace() as namespace, tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as kept:
        # Root writes them, and the group may read them.
        rings = [
            kept.enter_context(open_writer(namespace, source, capacity=64, columns=_COLUMNS, group=str(_GROUP)))
            for source in ("s", "t")
        ]
        scratch = Path(name)
        scratch.chmod(0o755)  # the other user finds its configuration there
        place = _Place(namespace, scratch, [ROOT, scratch, Path(sys.prefix), Path(sys.base_prefix)])
        for _ in range(effort.many(1, 20)):
            _append(rings)
            _intrude(place, done)
        while done["exporters ended"] < runs:
            for ring in rings:
                if chance.random() < 0.3:
                    ring.reserve(ring.header.width + 1 - ring.column_count)  # replaced by a wider segment
            _append(rings)
            with contextlib.ExitStack() as stack:
                # The first is always of the rings' own user, who has the right to unlink them.
                some = [
                    stack.enter_context(_exporter(place, 0 if i == 0 or chance.random() < 0.2 else _USER, ending))
                    for i, ending in enumerate(_ENDINGS[: runs - done["exporters ended"]])
                ]
                _besiege(rings, some, done)
    return dict(done)


@dataclass(frozen=True)
class _Place:
    namespace: str
    scratch: Path
    directories: list[Path]  # that the other user must reach

    def prefix(self, user: int, group: int) -> list[str]:
        return as_user(user, group, self.directories) if user else []


def _append(rings: list[RingWriter]) -> None:
    """Some frames of the present time whose values prove themselves on a page."""
    for ring in rings:
        for _ in range(3):
            ring.append(proof(ring.head + 1, _COLUMNS), time.time_ns(), time.monotonic_ns())


def _state(namespace: str) -> dict[str, tuple[object, ...]]:
    """All that a reader could change of the segments: bytes, inode, owner, mode, size, links, times."""
    state: dict[str, tuple[object, ...]] = {}
    for path in files_of(namespace):
        status = path.stat()
        state[path.name] = (
            hashlib.sha256(path.read_bytes()).hexdigest(), status.st_ino, status.st_uid, status.st_gid, status.st_mode,
            status.st_size, status.st_nlink, status.st_mtime_ns, status.st_blocks,
        )  # fmt: skip
    return state


def _require_same(before: dict[str, tuple[object, ...]], namespace: str, by: str) -> None:
    after = _state(namespace)
    gone = sorted(set(before) - set(after))
    require(not gone, f"I8: {', '.join(gone)} was unlinked by {by}")
    changed = [name for name in after if after[name] != before.get(name)]
    require(not changed, f"I8: {', '.join(changed)} was changed by {by}")


def _intrude(place: _Place, done: Counter[str]) -> None:
    before = _state(place.namespace)
    arguments = place.namespace, "s", os.geteuid()
    prefix = place.prefix(_USER, _GROUP)
    said = ask("tests.siege.reader.intruder", "intrude", *arguments, os.getpid(), prefix=prefix)
    done["ways to write tried"] += int(said["ways"])
    ask("tests.siege.reader.intruder", "outsider", *arguments, prefix=place.prefix(_USER, _OTHER_GROUP))
    _require_same(before, place.namespace, "a reader that tried to write")


@dataclass(frozen=True)
class _Exporter:
    """``python -m exporter`` as that user, to be ended by that signal."""

    place: _Place
    user: int
    ending: signal.Signals
    port: int
    program: Program

    def __str__(self) -> str:
        return f"an exporter that user {self.user} ran and {self.ending.name} ended"

    def serves(self) -> None:
        try:
            self.program.wait_until(lambda: listens(self.port), _WAIT_SECONDS, f"{self} to serve")
        except AssertionError:
            if self.program.process.poll() == UNABLE:
                pytest.skip(self.program.log().strip())
            raise

    def scrape(self, sequence: int, done: Counter[str]) -> None:
        """Every page is served, and /metrics has the newest frame, value by value."""
        for page in _PAGES:
            answer = http_client.get(f"http://127.0.0.1:{self.port}{page}", timeout=_WAIT_SECONDS)
            require(answer.status_code == 200, f"{self} answered {answer.status_code} to {page}: {answer.text[:500]}")
            if page == "/metrics":
                wanted = {f'gauge{{column="{column}"}} {one}' for column, one in enumerate(proof(sequence, _COLUMNS))}
                missing = wanted - set(answer.text.splitlines())
                require(not missing, f"I8: {self} does not show {len(missing)} of {_COLUMNS} values")
            done["pages scraped"] += 1


@contextlib.contextmanager
def _exporter(place: _Place, user: int, ending: signal.Signals) -> Iterator[_Exporter]:
    port = free_port()
    config = place.scratch / f"{port}.toml"
    config.write_text(
        f'[shm]\nnamespace = "{place.namespace}"\ngroup = "{_GROUP}"\nowner = "{os.geteuid()}"\n'
        f"[exporter]\nport = {port}\n"
    )
    command = [*place.prefix(user, _GROUP), sys.executable, "-m", "exporter", "--config", str(config)]
    with running(command, place.scratch / f"{port}.log", cwd=ROOT) as program:
        yield _Exporter(place, user, ending, port, program)


def _besiege(rings: list[RingWriter], exporters: list[_Exporter], done: Counter[str]) -> None:
    """These exporters read the rings, and end one after the other."""
    for one in exporters:
        one.serves()
        one.scrape(rings[0].head, done)
    _append(rings)  # while their descriptors are open
    namespace = exporters[0].place.namespace
    before = _state(namespace)
    segments = {str(path) for path in files_of(namespace)}
    for one in exporters:
        one.scrape(rings[0].head, done)
        for what, path, writable in held(one.program.pid, segments):
            require(not writable, f"I8: the exporter holds {path} so that it could write: {what}")
            require(not path.endswith(".lock"), f"I8: the exporter holds the lock {path}: {what}")
            done["maps and descriptors looked at"] += 1
        children = psutil.Process(one.program.pid).children()
        require(not children, f"I8: the exporter started processes {children}; a resource tracker would unlink rings")
    for one in exporters:
        one.program.process.send_signal(one.ending)
        status = one.program.process.wait(_WAIT_SECONDS)
        orderly = one.ending in (signal.SIGTERM, signal.SIGINT)
        require(status == (0 if orderly else -one.ending), f"{one} had exit status {status}: {one.program.log()}")
        _require_same(before, namespace, str(one))
        done["exporters ended"] += 1
        done[f"by {one.ending.name}"] += 1
        done["as another user"] += one.user != 0


MUTANTS = (
    Mutant(
        "reader", "rings that the group may write", "shm.create:MODE", patch="fault = 0o660",
        says="I8: a reader that may only read could open for writing", scale=0.2,
    ),
    Mutant(
        "reader", "readers ask for the right to write", "shm.files:attach",
        code="os.O_RDONLY", becomes="os.O_RDWR",
        says="I8: a reader whose group may read wants more than that", scale=0.2,
    ),
    Mutant(
        "reader", "attached as multiprocessing does", "shm.ring.reader:RingReader.__init__",
        patch="""
            import contextlib
            from multiprocessing.shared_memory import SharedMemory

            def fault(self, *arguments, **named):
                original(self, *arguments, **named)
                with contextlib.suppress(PermissionError):
                    self._attached = SharedMemory(self.path.name)
        """,
        says="I8: the exporter holds", scale=0.2,
    ),
    Mutant(
        "reader", "a reader that unlinks at its exit, as a resource tracker does",
        "shm.ring.reader:RingReader.__init__",
        patch="""
            import atexit

            def fault(self, *arguments, **named):
                original(self, *arguments, **named)
                atexit.register(os.unlink, self.path)
        """,
        says="was unlinked by an exporter that user 0 ran and SIGTERM ended", scale=0.2,
    ),
)  # fmt: skip
