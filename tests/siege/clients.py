"""HTTP under bad clients: whatever they do, the next scrape is whole, and what they cost is bounded.

The real exporter, with low limits (scraped.py), over two rings of known values whose page is larger than what the
kernel buffers for one connection several times over. While each kind of bad client is at work, and then many kinds at
once, good clients scrape, on new connections and on a kept one, and compare every line. Before, each bad request is
seen to get its answer, and each limit to be kept; afterwards nothing is left: no file descriptor, no work.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

import psutil

from exporter.http.server import BACKLOG
from tests.programs import Program
from tests.siege.bad_clients import ATTACKS, HEALTH, PAGE, Site, everything, send
from tests.siege.bad_requests import EMPTY, MISSING, QUERIES, RAW, Raw
from tests.siege.harness import Counts, Effort, Mutant, Violation, require
from tests.siege.patient_clients import Patience
from tests.siege.processes import cpu_seconds
from tests.siege.scraped import PLACES, scraped
from tests.siege.scraper import Page, Scraper, answer

# What docs/http-api.md says that a connection may cost at most, and for the rest, whatever the number of connections,
# what the allocator keeps, numpy, the window that the worker reads, and pages under way.
_CONNECTION_BYTES: Final = 4 * 65_536
_REST_BYTES: Final = 96 * 2**20
_GIVEN_UP_SECONDS: Final = 8.0  # by which a limit of one or two seconds has to have been kept, on a busy machine
_CROWD: Final = 600  # connections at once
_QUIET_CPU_SECONDS: Final = 0.4  # of one second; an exporter that spins takes all of it


def check(effort: Effort) -> Counts:
    with scraped() as (program, port, page):
        counts = asyncio.run(_Siege(effort, program, port, page).run())
        log = program.log()
        require("Traceback" not in log, f"the exporter logged a traceback:\n{log[-3000:]}")
        require("ring refused" not in log, f"the exporter refused a good ring:\n{log[-3000:]}")
        return counts


class _Siege:
    """One exporter, and what is done to it."""

    def __init__(self, effort: Effort, program: Program, port: int, page: Page) -> None:
        self.effort, self.program, self.port, self.page = effort, program, port, page
        self.process = psutil.Process(program.pid)
        self.site = Site(port, effort.random())
        self.scraper = Scraper(port, page)
        self.page_bytes = 0
        self.peak_bytes = self.peak_files = 0

    async def run(self) -> Counts:
        await self._warm_up()
        files, before = self._open_files(), self.process.memory_info().rss
        async with _stopped_at_end(self._watch()):
            answers = await self._answers()
            await self._limits(files)
            await self._makes_room(files)
            late = await Patience(self.site, self.page, self.page_bytes, self.effort.many(12, 12)).late_answers()
            for name, attack in ATTACKS.items():
                await self._attacked(name, attack.begun(self.site), self.effort.seconds(0.12, 4))
            mixes = await self._mixes()
        await self._nothing_is_left(files)
        after = self.process.memory_info().rss
        bound = PLACES * (_CONNECTION_BYTES + self.page_bytes) + _REST_BYTES
        grown = self.peak_bytes - before
        require(grown < bound, f"memory: {PLACES} connections cost {_mib(grown)} MiB; at most {_mib(bound)} are right")
        return {
            "requests with their right answers": answers,
            "pages taken late, in a crowd": late,
            "mixes of several kinds": mixes,
            **self.site.done,
            **self.scraper.done,
            "memory before, at most, afterwards": (
                f"{_mib(before)}, {_mib(self.peak_bytes)}, {_mib(after)} MiB (allowed: {_mib(before + bound)})"
            ),
        }

    # ---- the parts -----------------------------------------------------------------------------------------

    async def _warm_up(self) -> None:
        """Every page once, so that every ring is open and every module in memory."""
        for path in ("/metrics/aggregated", "/stats", "/health", "/metrics"):
            status, _, body = await self._get(path)
            require(status == 200, f"{path} was answered {status} before anything was done to it")
        self.page.check("nothing", status, body)
        self.page_bytes = len(body)
        await asyncio.sleep(0.2)  # for the last connection to be gone

    async def _answers(self) -> int:
        for path, words in QUERIES:
            status, _, body = await self._get(path)
            said = body.decode()
            require(status == 400, f"a bad query was answered {status}: {path[:200]}")
            require(said.count("\n") == 1 and len(said) < 700, f"a bad query got more than a line: {said[:900]!r}")
            for word in words:
                require(word in said, f"the answer to {path[:100]} does not say {word!r}: {said!r}")
        for path in EMPTY:
            status, _, body = await self._get(path)
            require((status, body) == (200, b""), f"an empty page was right, not {status}: {path}")
        for path in MISSING:
            status, _, _ = await self._get(path)
            require(status == 404, f"404 was right for {path}, not {status}")
        for raw in RAW:
            await self._answer_to(raw)
        return len(QUERIES) + len(EMPTY) + len(MISSING) + len(RAW)

    async def _answer_to(self, raw: Raw) -> None:
        """The limit on a request's size may cut the connection while the client still sends: then by RST, unread."""
        found = b""
        async with self.site.connected() as (reader, writer):
            with contextlib.suppress(OSError):
                await send(writer, raw.sent)
            async with asyncio.timeout(_GIVEN_UP_SECONDS):
                while not _whole(found) and (data := await reader.read(1 << 20)):
                    found += data
        if len(raw.sent) > 65_536 and not found:
            return
        status = int(found.split(b" ", 2)[1]) if found else 0
        require(status == raw.status, f"{raw.name}: {raw.status} was right, not {status}: {found[:200]!r}")
        require(raw.holds in found, f"{raw.name}: the answer does not say {raw.holds!r}: {found[:300]!r}")
        if status == 405:
            allowed = re.findall(rb"\r\nallow: (.*)\r\n", found)
            require(allowed and set(allowed[0].split(b", ")) == {b"GET", b"HEAD"}, f"{raw.name}: Allow is {allowed!r}")
        await self._scraped(f"after {raw.name}")

    async def _limits(self, files: int) -> None:
        """Each limit is kept, by several at once."""
        async with _stopped_at_end(*[self._reads_nothing() for _ in range(4)]):
            await self._until(lambda: self._open_files() >= files + 4, "clients that read nothing hold no connection")
            await asyncio.gather(
                self._is_given_up(b"", "a connection without a request"),
                self._is_given_up(PAGE[:-2], "a request that does not end"),
                self._is_given_up(HEALTH, "a kept connection without the next request"),
                self._is_given_up(HEALTH + PAGE[:9], "a second request that does not end"),
                self._is_refused_in_time(),
                self._is_not_answered_for_ever(),
            )
            await self._until(lambda: self._open_files() <= files, "answers that nobody takes hold their connections")

    async def _is_given_up(self, sent: bytes, what: str) -> None:
        async with self.site.connected() as (reader, writer):
            await send(writer, sent)
            found = await everything(reader, _GIVEN_UP_SECONDS)
            require(_is_closed(reader, writer), f"{what} is not given up within {_GIVEN_UP_SECONDS:g} s")
            require(found.count(b"HTTP/1.1") == (1 if sent.startswith(HEALTH) else 0), f"{what} got {found[:100]!r}")

    async def _is_refused_in_time(self) -> None:
        refused = True
        async with self.site.connected() as (_, writer):
            await send(writer, PAGE[:-2] + b"long: ")
            for _ in range(512):  # 32 MiB: the kernel alone takes up to ten
                await send(writer, b"x" * 65_536)
            refused = False
        require(refused, "a header of 32 MiB was read")

    async def _is_not_answered_for_ever(self) -> None:
        found, closed = b"", True
        async with self.site.connected() as (reader, writer):
            sending = asyncio.ensure_future(send(writer, HEALTH * 20_000))
            found = await everything(reader, _GIVEN_UP_SECONDS)
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            closed = _is_closed(reader, writer)
        answered = found.count(b"HTTP/1.1 ")
        require(
            closed and answered < 5000, f"of 20,000 requests in advance {answered:,} were answered, and no end of it"
        )

    async def _reads_nothing(self) -> None:
        async with self.site.connected(receive_bytes=4096) as (_, writer):
            await send(writer, PAGE * 20)
            await asyncio.sleep(10 * _GIVEN_UP_SECONDS)

    async def _makes_room(self, files: int) -> None:
        """Many connections that ask for nothing, at once."""
        self.peak_files = 0
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(_CROWD):
                await stack.enter_async_context(self.site.connected())
            await asyncio.sleep(0.2)
        most = PLACES * 3 // 2 + BACKLOG
        now = self.peak_files - files
        require(
            now <= most, f"{now} connections were open at once, of {PLACES} that are kept; at most {most} are right"
        )

    async def _mixes(self) -> int:
        """Several kinds at once; in the end, or at the end of each round of the long form, all of them."""
        left, done = self.effort.seconds(0.6, 170), 0
        while left > 0:
            seconds = min(left, self.site.random.uniform(2, 6))
            kinds = self.site.random.sample(list(ATTACKS), self.site.random.randint(2, len(ATTACKS)))
            if done % 5 == 0:
                kinds = list(ATTACKS)
            attacks = [one for kind in kinds for one in ATTACKS[kind].begun(self.site)]
            await self._attacked(f"a mix of {', '.join(kinds)}", attacks, seconds)
            left, done = left - seconds, done + 1
        return done

    async def _attacked(self, name: str, attacks: list[Coroutine[Any, Any, None]], seconds: float) -> None:
        """Good clients scrape while bad ones are at it, and then a last time."""
        self.scraper.during = name
        good = [self.scraper.on_new_connections(), self.scraper.on_a_kept_connection()]
        async with _stopped_at_end(*attacks):
            before = sum(self.scraper.done.values())
            async with _stopped_at_end(*good) as scrapes:
                await asyncio.wait(scrapes, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
                # On a slow machine one may still be under way: an attack without a scrape in it proves nothing.
                await self._until(
                    lambda: sum(self.scraper.done.values()) > before + 1 or any(one.done() for one in scrapes),
                    f"no scrape ended during {name}", 40,
                )  # fmt: skip
        await self._scraped(f"after {name}")

    def _open_files(self) -> int:
        """The exporter's descriptors, without those of the memory that its threads keep to copy rings into."""
        found = 0
        for one in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with contextlib.suppress(OSError):  # closed since it was listed
                found += "memfd:fogmetrics-scratch" not in os.readlink(one)
        return found

    async def _nothing_is_left(self, files: int) -> None:
        await self._until(lambda: self._open_files() <= files, "file descriptors are left over", 20)
        begun = cpu_seconds(self.process.pid)
        await asyncio.sleep(1)
        took = cpu_seconds(self.process.pid) - begun
        require(took < _QUIET_CPU_SECONDS, f"the exporter took {took:.2f} s of CPU time in a second without a client")

    # ---- helpers -------------------------------------------------------------------------------------------

    async def _get(self, path: str) -> tuple[int, bytes, bytes]:
        try:
            async with asyncio.timeout(20):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
                writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
                found = await answer(reader)
                writer.close()
                return found
        except (OSError, asyncio.IncompleteReadError) as error:
            raise Violation(f"no answer to GET {path[:200]}: {error!r:.200}") from None

    async def _scraped(self, when: str) -> None:
        self.scraper.during = when
        await self.scraper.once()

    async def _until(self, true: Callable[[], bool], otherwise: str, seconds: float = _GIVEN_UP_SECONDS) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not true():
            require(loop.time() < deadline, f"{otherwise}, {seconds:g} s later")
            await asyncio.sleep(0.05)

    async def _watch(self) -> None:
        while True:
            self.peak_bytes = max(self.peak_bytes, self.process.memory_info().rss)
            self.peak_files = max(self.peak_files, self._open_files())
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def _stopped_at_end(*work: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """The coroutines run while the block does. What one of them raised is raised again at its end."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield tasks
    finally:
        # Once is not always enough: a time that is over at the same moment can take the place of the cancellation.
        while left := [one for one in tasks if not one.done()]:
            for one in left:
                one.cancel()
            await asyncio.wait(left, timeout=0.5)
    for one in tasks:
        if not one.cancelled() and (error := one.exception()):
            raise error


def _is_closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    return reader.at_eof() or writer.is_closing()


def _whole(found: bytes) -> bool:
    """Whether that is a whole answer: its head, and as many bytes as the head says; one without a length is not."""
    head, _, body = found.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: ([0-9]+)", head)
    return length is not None and len(body) >= int(length[1])


def _mib(count: float) -> int:
    return round(count / 2**20)


MUTANTS = (
    Mutant(
        "clients", "a request may take for ever to arrive", "exporter.http.server:Guard._awaited",
        code='"request_seconds" if self._received or self.cycle is None else "keep_alive_seconds"', becomes='""',
        says="is not given up within",
    ),
    Mutant(
        "clients", "an answer may wait for ever", "exporter.http.server:Guard._awaited",
        code='"answer_seconds"', becomes='""', says="answers that nobody takes",
    ),
    Mutant(
        "clients", "a request may have any size", "exporter.http.server:Guard.data_received",
        code="self._received > self.limits.max_request_bytes", becomes="False", says="a header of 1 MB",
    ),
    Mutant(
        "clients", "nobody makes room", "exporter.http.server:State.make_room",
        patch="def fault(self): pass", says="connections were open at once", scale=0.25,
    ),
    Mutant(
        "clients", "who has not taken its answer makes room", "exporter.http.server:Guard._watch",
        code='clock in ("request_seconds", "keep_alive_seconds")', becomes="clock", says="an answer was cut",
    ),
    Mutant(
        "clients", "an answer that was begun is followed by another", "exporter.http.server:Guard.send_400_response",
        code="self.cycle.disconnected = True", becomes="pass", says="a traceback",
    ),
    Mutant(
        "clients", "a bad window is a fault of ours", "exporter.http.parameters:parse_window",
        patch="fault = parse_duration", says="a bad query was answered 500",
    ),
)  # fmt: skip
