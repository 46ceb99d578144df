"""The shop (tests/stand_ins/shop) under a real gunicorn: its load, which knows what has to be counted, and who watches.

Each request is sent once. One that was answered has been counted; one whose worker was killed may have been or not, so
what is counted has bounds, which are one number where every request was answered.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from tests.daemon import ROOT
from tests.programs import Program, find_program, free_port, listens, running

CONF = Path(__file__).parent / "stand_ins" / "shop"
PATHS = ("/", "/basket", "/failing")
_TIMEOUT_SECONDS = 20.0
_PAUSE_SECONDS = 0.004  # of a client between two requests: a load that leaves the machine room
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_COUNTS = re.compile(r"_(?:total|count|sum|bucket)$")

Expected = Counter[tuple[str, str]]  # the same; in multiples of a quarter, whose sums are exact
Samples = dict[tuple[str, str], float]  # by name and by what is between the braces


def samples_of(page: str) -> Samples:
    """Of a page without commas in its labels' values; labels in the order of their names."""
    found = _SAMPLE.findall(page)
    return {(name, ",".join(sorted(labels.split(",")))): float(value) for name, labels, value in found}


@dataclass(frozen=True)
class Shop:
    """A gunicorn that runs."""

    program: Program
    port: int

    def workers(self) -> set[int]:
        """The pids of the workers that live."""
        found = set()
        for one in psutil.Process(self.program.pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if one.status() != psutil.STATUS_ZOMBIE:
                    found.add(one.pid)
        return found

    def processes(self) -> set[int]:
        """All that are not reaped yet, the master among them: of a worker that was killed threads may still run."""
        return {self.program.pid, *(one.pid for one in psutil.Process(self.program.pid).children())}

    def wait_for_workers(self, number: int, without: AbstractSet[int] = frozenset()) -> set[int]:
        """Wait until there are that many, and none of ``without``; their pids."""

        def there() -> set[int]:
            workers = self.workers()
            return workers if len(workers) == number and not workers & without else set()

        return self.program.wait_until(there, 60, f"{number} workers, none of {without}")

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.program.pid, number)

    def reload(self, workers: int) -> None:
        """Exchange all workers for new ones."""
        before = self.workers()
        self.signal(signal.SIGHUP)
        self.wait_for_workers(workers, before)

    def kill_one(self, workers: int) -> None:
        victim = min(self.workers())
        os.kill(victim, signal.SIGKILL)
        self.wait_for_workers(workers, {victim})


@contextlib.contextmanager
def shop(
    directory: Path, conf: str, environ: dict[str, str], *options: str, workers: int = 4, within: Sequence[str] = ()
) -> Iterator[Shop]:
    """gunicorn with four workers and that configuration, on a free port of loopback. ``within``: a command for it."""
    port = free_port()
    command: list[str | Path] = [
        *within, find_program("gunicorn"), "--config", CONF / conf, "--bind", f"127.0.0.1:{port}",
        "--workers", str(workers), "--log-level", "warning", *options, "tests.stand_ins.shop.application:application",
    ]  # fmt: skip
    with running(command, directory / "gunicorn.log", env={"PYTHONPATH": str(ROOT), **environ}, cwd=ROOT) as program:
        program.wait_until(lambda: listens(port), 30, "gunicorn listening")
        found = Shop(program, port)
        found.wait_for_workers(workers)
        yield found


def get(port: int, path: str) -> bytes:
    """The body of an answer 200. Raises ConnectionRefusedError, and OSError where it was sent and not answered."""
    with socket.create_connection(("127.0.0.1", port), _TIMEOUT_SECONDS) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    head, _, body = b"".join(parts).partition(b"\r\n\r\n")
    if not head.startswith((b"HTTP/1.0 200", b"HTTP/1.1 200")):
        raise ConnectionError(f"{path} was answered by {head[:60]!r}")
    return body


@dataclass
class Load:
    """``clients`` threads that ask until they are stopped, or have asked for ``most`` requests in all.

    ``certain``, ``doubtful``: what the requests that were answered, and that were not, have to be counted as.
    """

    port: int
    clients: int = 4
    most: int = 1_000_000
    certain: Expected = field(default_factory=Counter)
    doubtful: Expected = field(default_factory=Counter)
    answered: int = 0
    _next: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Load:
        self._threads = [threading.Thread(target=self._ask) for _ in range(self.clients)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive(), "a client does not end"

    def _ask(self) -> None:
        while not self._over.is_set():
            with self._lock:
                number = self._next
                self._next += 1
            if number >= self.most:
                return
            path = PATHS[number % len(PATHS)]
            try:
                get(self.port, f"{path}?n={number}")
            except ConnectionRefusedError:
                pass  # nobody had it
            except OSError:
                with self._lock:
                    self.doubtful += counted(path, number)
            else:
                with self._lock:
                    self.certain += counted(path, number)
                    self.answered += 1
            self._over.wait(_PAUSE_SECONDS)

    def wrong(self, samples: Samples) -> list[str]:
        """What was counted out of its bounds."""
        found = []
        for key in sorted({*self.certain, *self.doubtful}):
            least, value = self.certain[key], samples.get(key, 0.0)
            if not least <= value <= least + self.doubtful[key]:
                found.append(f"{key} is {value}, not {least} to {least + self.doubtful[key]}")
        return found


def counted(path: str, number: int) -> Expected:
    """What the shop counts for a request."""
    by_path = f'path="{path}"'
    found: Expected = Counter()
    found["shop_requests_total", by_path] = 1
    found["shop_request_seconds_count", by_path] = 1
    found["shop_request_seconds_sum", by_path] = (number % 4) / 4  # type: ignore[assignment]
    for bound in ("0.25", "0.5", "+Inf"):
        found["shop_request_seconds_bucket", f'le="{bound}",{by_path}'] = int((number % 4) / 4 <= float(bound))
    found["shop_answer_bytes_count", by_path] = 1
    found["shop_answer_bytes_sum", by_path] = number % 8
    found["shop_failures_total", ""] = int(path == "/failing")
    return found


@dataclass
class Watch:
    """Scrapes all the time. ``scrapes``: how many; ``falls``: what became less, or vanished; ``ghosts``: the pids of
    processes that were no more when a page that has them was asked for; ``failed``: scrapes without a page.
    """

    page: Callable[[], str]
    alive: Callable[[], set[int]]
    every_seconds: float = 0.02
    scrapes: int = 0
    falls: list[str] = field(default_factory=list)
    ghosts: set[int] = field(default_factory=set)
    failed: int = 0
    _last: Samples = field(default_factory=dict)
    _seen: set[int] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Watch:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def _watch(self) -> None:
        while not self._over.wait(self.every_seconds):
            self.look()

    def look(self) -> Samples:
        """One scrape."""
        before = self.alive()
        try:
            samples = samples_of(self.page())
        except OSError:
            self.failed += 1
            return {}
        after = self.alive()
        self.scrapes += 1
        counts = {key: value for key, value in samples.items() if _COUNTS.search(key[0]) and key[0].startswith("shop")}
        self.falls += [f"{key}: {last}, then {counts.get(key)}" for key, last in self._last.items()
                       if counts.get(key, -1.0) < last]  # fmt: skip
        self._last = counts
        pids = {int(pid) for _, labels in samples for pid in re.findall(r'pid="(\d+)"', labels)}
        # One that nobody had seen may have begun and ended within this scrape; on the next page it would be a ghost.
        self.ghosts |= (pids & self._seen) - before
        self._seen |= pids | before | after
        return samples
