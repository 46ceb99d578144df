"""I8: the exporter can't write. The real one, as another user whose group may read, and as the rings' own user.

What a process with the exporter's rights could try besides is in :mod:`tests.siege.reader.intruder`.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shm.ring.writer import RingWriter
from tests.programs import free_port, listens, wait_until
from tests.rings import files_of, open_writer, proof
from tests.siege.harness import ROOT, Counts, Effort, Mutant, own_namespace, require
from tests.siege.processes import UNABLE, as_user, ask, environ
from tests.siege.reader.intruder import held

# Of nobody on any host, as far as one can know. The group may read; the user has no other right.
_USER, _GROUP, _OTHER_GROUP = 64_123, 64_124, 64_125
_COLUMNS = 300
_ENDINGS = (signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSEGV, signal.SIGABRT)
_START_SECONDS = 60.0
_WAIT_SECONDS = 30.0


def check(effort: Effort) -> Counts:
    if os.geteuid():
        pytest.skip("it must be root, to run the exporter as another user")
    chance = effort.random()
    runs = effort.many(5, 150)
    pythons = _pythons(effort.long)
    done: Counter[str] = Counter()
    with own_namespace() as namespace, tempfile.TemporaryDirectory() as scratch, _rings(namespace) as rings:
        Path(scratch).chmod(0o755)  # the other user finds its configuration there
        place = _Place(namespace, Path(scratch), [ROOT, Path(scratch), *_prefixes(pythons)])
        for _ in range(effort.many(1, 20)):
            _append(rings)
            _intrude(place, done)
        while done["runs"] < runs:
            for ring in rings:
                if chance.random() < 0.3:
                    ring.reserve(ring.width + 1 - ring.column_count)  # replaced by a wider segment
            _append(rings)
            batch = min(len(_ENDINGS), runs - done["runs"])
            # Its first is always of the rings' own user: such a one could unlink them, if anything in it did.
            users = [0, *(0 if chance.random() < 0.2 else _USER for _ in range(batch - 1))]
            some = [
                _Exporter(place, user, pythons[(done["runs"] + i) % len(pythons)], _ENDINGS[(done["runs"] + i) % 5])
                for i, user in enumerate(users)
            ]
            try:
                _siege(rings, some, done)
            finally:
                for one in some:
                    one.end()
            done["runs"] += batch
    counts: dict[str, int | str] = {
        "ways to write tried": done["ways"], "exporters ended": done["runs"],
        "as another user": done["as another user"],
        **{f"by {ending.name}": done[ending.name] for ending in _ENDINGS if done[ending.name]},
        "maps and descriptors looked at": done["held"], "pages scraped": done["pages"],
        "Python": ", ".join(sorted({version for _, version in map(_about, pythons)})),
    }  # fmt: skip
    return counts


@dataclass(frozen=True)
class _Place:
    namespace: str
    scratch: Path
    directories: list[Path]  # what the other user must reach

    def prefix(self, user: int, group: int) -> list[str]:
        return as_user(user, group, self.directories) if user else []


def _pythons(long: bool) -> list[str]:
    """The interpreters to run the exporter with: ours, and in the long form those of .venv-3.12 and .venv-3.13."""
    others = [ROOT / f".venv-{version}" / "bin" / "python" for version in ("3.11", "3.12", "3.13")]
    found = [sys.executable, *(str(one) for one in others if long and one.exists())]
    return list({_about(one)[1]: one for one in reversed(found)}.values())[::-1]


def _about(python: str) -> tuple[list[str], str]:
    """(where its files are, its version)."""
    if python == sys.executable:
        return [sys.prefix, sys.base_prefix], ".".join(platform.python_version_tuple()[:2])
    ask_it = "import sys; print(sys.prefix, sys.base_prefix, '%d.%d' % sys.version_info[:2], sep='\\n')"
    said = subprocess.run([python, "-c", ask_it], capture_output=True, text=True, check=True).stdout.split("\n")
    return said[:2], said[2]


def _prefixes(pythons: list[str]) -> list[Path]:
    return [Path(one) for python in pythons for one in _about(python)[0]]


@contextlib.contextmanager
def _rings(namespace: str) -> Iterator[list[RingWriter]]:
    """Two rings that root writes and the group may read."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(open_writer(namespace, source, capacity=64, columns=_COLUMNS, group=str(_GROUP)))
            for source in ("s", "t")
        ]


def _append(rings: list[RingWriter]) -> None:
    """Some frames of now that prove themselves by their values, so that a page shows them."""
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
    done["ways"] += int(said["ways"])
    ask("tests.siege.reader.intruder", "outsider", *arguments, prefix=place.prefix(_USER, _OTHER_GROUP))
    _require_same(before, place.namespace, "a reader that tried to write")


class _Exporter:
    """``python -m exporter`` as that user, 0: as ourselves, to be ended by that signal."""

    def __init__(self, place: _Place, user: int, python: str, ending: signal.Signals) -> None:
        self.place = place
        self.user = user
        self.ending = ending
        self.port = free_port()
        config = place.scratch / f"{self.port}.toml"
        config.write_text(
            f'[shm]\nnamespace = "{place.namespace}"\ngroup = "{_GROUP}"\nowner = "{os.geteuid()}"\n'
            f"[exporter]\nport = {self.port}\n"
        )
        self.log = place.scratch / f"{self.port}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*place.prefix(user, _GROUP), python, "-m", "exporter", "--config", str(config)],
                cwd=ROOT, env=environ(), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def __str__(self) -> str:
        return f"an exporter that user {self.user} ran and {self.ending.name} ended"

    def said(self) -> str:
        return self.log.read_text(errors="replace")[-2000:]

    def serves(self) -> None:
        def does() -> bool:
            status = self.process.poll()
            if status == UNABLE:
                pytest.skip(self.said().strip())
            assert status is None, f"{self} ended with {status}: {self.said()}"
            return listens(self.port)

        wait_until(does, _START_SECONDS, f"{self} to serve")

    def get(self, page: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=_WAIT_SECONDS)
        try:
            connection.request("GET", page)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        finally:
            connection.close()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(_WAIT_SECONDS)


def _siege(rings: list[RingWriter], exporters: list[_Exporter], done: Counter[str]) -> None:
    """Those exporters read what is there, and end one after the other."""
    for one in exporters:
        one.serves()
        _scrape(one, rings[0].head, done)
    _append(rings)  # while their descriptors are open
    namespace = exporters[0].place.namespace
    before = _state(namespace)
    segments = {str(path) for path in files_of(namespace)}
    for one in exporters:
        _scrape(one, rings[0].head, done)
        seen = 0
        for what, path, writable in held(one.process.pid, segments):
            require(not writable, f"I8: the exporter holds {path} so that it could write: {what}")
            require(not path.endswith(".lock"), f"I8: the exporter holds the lock {path}: {what}")
            seen += 1
        done["held"] += seen
        pid = one.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        require(not children, f"I8: the exporter started processes {children}; a resource tracker would unlink rings")
    assert done["held"], "no exporter held anything of a ring, so nothing was looked at"
    for one in exporters:
        one.process.send_signal(one.ending)
        status = one.process.wait(_WAIT_SECONDS)
        orderly = one.ending in (signal.SIGTERM, signal.SIGINT)
        require(status == (0 if orderly else -one.ending), f"{one} had exit status {status}: {one.said()}")
        _require_same(before, namespace, str(one))
        done[one.ending.name] += 1
        done["as another user"] += one.user != 0


def _scrape(exporter: _Exporter, sequence: int, done: Counter[str]) -> None:
    """Every page is served, and the newest frame is on the one of the latest samples, value by value."""
    for page in ("/metrics", "/metrics/aggregated?window=1h", "/stats", "/health"):
        status, text = exporter.get(page)
        require(status == 200, f"{exporter} answered {status} to {page}: {text[:500]} {exporter.said()}")
        if page == "/metrics":
            wanted = [f'gauge{{column="{column}"}} {value}' for column, value in enumerate(proof(sequence, _COLUMNS))]
            missing = set(wanted) - set(text.splitlines())
            require(
                not missing,
                f"I8: an exporter that may read does not show {len(missing)} of {_COLUMNS} values: {exporter.said()}",
            )
        done["pages"] += 1


MUTANTS = (
    Mutant(
        "reader", "rings that the group may write", "shm.create:MODE", patch="fault = 0o660",
        says="I8: a reader that may only read could open for writing", scale=0.2,
    ),
    Mutant(
        "reader", "readers ask for the right to write", "shm.files:attach_readonly",
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
