"""What one connection may cost, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from collector.frame.collector import MetricCollector
from exporter.http.connection import Connection, Handler, Shared
from exporter.http.messages import Request, Response
from exporter.http.places import Places
from exporter.settings import ExporterConfig
from shm.metric import Metric
from tests.exporter.test_main import exporter, get
from tests.exporter.wire import Wire
from tests.programs import Program

MAX_REQUEST_BYTES = ExporterConfig().max_request_bytes
QUICK = "request_seconds = 0.5\nanswer_seconds = 0.5\n"
REQUEST = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n"


@contextlib.contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", port)) as one:
        one.settimeout(20)
        yield one


def everything(one: socket.socket) -> bytes:
    """All that comes until the other side closes."""
    found = bytearray()
    with contextlib.suppress(ConnectionError):
        while data := one.recv(1 << 20):
            found += data
    return bytes(found)


def answer(one: socket.socket) -> bytes:
    """One answer to REQUEST, head and body."""
    found = b""
    while not found.endswith(b'"sources": {}\n}\n'):
        data = one.recv(65_536)
        assert data, found
        found += data
    return found


@contextlib.contextmanager
def large_page(namespace: str) -> Iterator[None]:
    """A ring whose page has 220 KB."""
    with MetricCollector("s", namespace=namespace, capacity=8, max_series=2000) as collector:
        collector.register(Metric("x", "gauge", "X.", "", ("label",)))
        collector.cardinality.max_series_per_metric = 2000
        for i in range(1500):
            collector.record_metric("x", 1.0, {"label": f"{i:0128}"})
        collector.commit()
        yield


def test_a_request_larger_than_the_limit_is_refused_and_its_connection_closed(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path) as (_, port):
        start = b"GET /health HTTP/1.1\r\nhost: x\r\nlong: "
        with connected(port) as one:
            one.sendall(start + b"x" * (MAX_REQUEST_BYTES - len(start) - 4) + b"\r\n\r\n")
            assert one.recv(12) == b"HTTP/1.1 503", "one of the limit is answered: no source is fresh"
        with connected(port) as one:
            one.sendall(start + b"x" * (MAX_REQUEST_BYTES + 1 - len(start)))
            answer = everything(one)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert answer.endswith(b"\r\n\r\nthe request is larger than 65536 bytes\n")
        with connected(port) as one:
            sent = 0
            with contextlib.suppress(ConnectionError):
                one.sendall(b"POST /metrics HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\nlong: ")
                while sent < 100_000_000:
                    sent += one.send(b"x" * 65_536)
            assert sent < 100_000_000, "a trailer counts, too"
        assert get(port, "/metrics").status_code == 200


def test_the_limit_of_a_request_is_exact_whatever_one_read_brings(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path, "max_request_bytes = 1024\n") as (_, port):
        for size in (1023, 1024, 1025, 2000, 4000):
            start = b"GET /health HTTP/1.1\r\nhost: x\r\nlong: "
            with connected(port) as one:
                one.sendall(start + b"x" * (size - len(start) - 4) + b"\r\n\r\n")
                assert one.recv(12) == (b"HTTP/1.1 503" if size <= 1024 else b"HTTP/1.1 431"), size


def test_a_connection_without_a_whole_request_is_closed_and_one_between_requests_kept(
    namespace: str, tmp_path: Path
) -> None:
    with exporter(namespace, tmp_path, "max_connections = 8\n" + QUICK) as (_, port):
        with contextlib.ExitStack() as stack:
            held = [stack.enter_context(connected(port)) for _ in range(8)]
            for one, text in zip(held, (b"", b"\r\n", b"GET", REQUEST[:-2]), strict=False):
                one.sendall(text)
            assert [everything(one) for one in held] == [b""] * 8
        with connected(port) as one:
            for _ in range(2):
                one.sendall(REQUEST)
                assert answer(one).startswith(b"HTTP/1.1 503")
                time.sleep(1.2)  # longer than a request may take
            one.sendall(REQUEST + REQUEST[:9])  # an answer, and the beginning of another request
            assert everything(one).startswith(b"HTTP/1.1 503")


def test_some_requests_in_advance_are_answered_and_very_many_end_the_connection(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path) as (program, port):
        with connected(port) as one:
            one.sendall(REQUEST * 50 + REQUEST.replace(b"host", b"connection: close\r\nhost"))
            assert everything(one).count(b"HTTP/1.1 503") == 51
        with connected(port) as one:
            with contextlib.suppress(ConnectionError):
                one.sendall(REQUEST * 20_000)
            assert everything(one).count(b"HTTP/1.1") < 2000
        assert get(port, "/metrics").status_code == 200
        assert "Traceback" not in program.log(), "a request may be under way when its connection is cut"


def test_a_client_that_reads_no_answers_is_let_go(namespace: str, tmp_path: Path) -> None:
    with large_page(namespace), exporter(namespace, tmp_path, QUICK) as (program, port):
        with connected(port) as one:
            one.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 60)  # 13 MB, more than the kernel buffers
            assert one.recv(1) == b"H"
            program.wait_until(lambda: connections(program) == 0, 20, "the connection to be closed")
            assert everything(one).count(b"TTP/1.1 200") < 60
        assert len(get(port, "/metrics").content) > 200_000


def test_a_request_is_refused_only_where_every_place_is_busy_with_an_answer(namespace: str, tmp_path: Path) -> None:
    with large_page(namespace), exporter(namespace, tmp_path, "max_connections = 1\n") as (_, port):
        with connected(port) as one:
            one.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 60)  # more than the kernel buffers
            assert one.recv(1) == b"H"
            refused = get(port, "/health")
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert refused.text == "all 1 connections are busy with answers; try again in 1 s\n"
            found = b""
            while found.count(b"TTP/1.1 200") < 60:
                found += one.recv(1 << 20)
        assert get(port, "/health").status_code == 200


def test_requests_in_advance_are_bounded_in_bytes_too(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path, "max_request_bytes = 4096\n") as (_, port):
        large = REQUEST.replace(b"host", b"long: " + b"x" * 3900 + b"\r\nhost")
        for count, answered in ((3, 3), (40, 0)):
            with connected(port) as one:
                with contextlib.suppress(ConnectionError):
                    one.sendall(large * count)
                    one.sendall(REQUEST.replace(b"host", b"connection: close\r\nhost"))
                found = everything(one)
            assert found.count(b"HTTP/1.1 503") == answered + 1 if answered else found.count(b"HTTP/1.1 503") < count


def connections(program: Program) -> int:
    """Established ones of the process: the sockets that it has open but that it listens on."""
    found = list(Path(f"/proc/{program.process.pid}/fd").iterdir())
    names = []
    for one in found:
        with contextlib.suppress(OSError):
            names.append(str(one.readlink()))
    inodes = {name[8:-1] for name in names if name.startswith("socket:")}
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(1 for line in lines if line.split()[3] != "0A" and line.split()[9] in inodes)


def test_a_wish_for_a_web_socket_is_answered_as_any_request_and_recommends_nothing(
    namespace: str, tmp_path: Path
) -> None:
    with exporter(namespace, tmp_path) as (program, port):
        with connected(port) as one:
            one.sendall(
                b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n"
                b"sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            assert one.recv(65_536).startswith(b"HTTP/1.1 503")
        assert "pip install" not in program.log()
        assert "Unsupported" not in program.log()


# ---- without a socket --------------------------------------------------------------------------------------------


class Talk:
    """A connection whose pages are the requests themselves, and a wire to it."""

    def __init__(self, handle: Handler | None = None, places: Places | None = None) -> None:
        self.asked: list[Request] = []
        self.refused: list[int] = []
        self.shared = Shared(handle or self._page, ExporterConfig(), places or Places(8), self.refused.append)
        self.connection, self.wire = Connection(self.shared), Wire()
        self.connection.connection_made(self.wire)

    def _page(self, request: Request) -> Response:
        self.asked.append(request)
        return Response(200, (request.path.encode(), b"?", request.query))

    def say(self, data: bytes) -> bytes:
        """What is sent back at once."""
        before = len(self.wire.sent)
        self.connection.data_received(data)
        return bytes(self.wire.sent[before:])


def talked(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 30))


def test_the_bytes_of_a_scrape_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        talk = Talk()
        scrape, other = b"GET /a?b HTTP/1.1\r\nhost: x\r\n\r\n", b"GET /b?b HTTP/1.1\r\nhost: x\r\n\r\n"
        first = talk.say(scrape)
        assert first.endswith(b"\r\n\r\n/a?b")
        parsed: list[bytes] = []
        parse = Connection._parse

        def noted(connection: Connection, piece: bytes) -> None:
            parsed.append(piece)
            parse(connection, piece)

        monkeypatch.setattr(Connection, "_parse", noted)
        assert talk.say(scrape) == first
        assert not parsed
        assert talk.say(other).endswith(b"/b?b")
        assert parsed == [other]
        assert talk.say(scrape[:9]) + talk.say(scrape[9:]) == first
        # The beginning of another request, and then bytes that look like the one before, but are its header.
        assert talk.say(scrape) == first
        assert talk.say(b"GET /c HTTP/1.1\r\nlong: ") == b""
        assert talk.say(scrape).endswith(b"/c?"), "all of it is that request's"
        assert [one.path for one in talk.asked] == ["/a", "/a", "/b", "/a", "/a", "/c"]

    talked(work)


def test_a_request_that_comes_with_more_is_not_taken_for_the_same() -> None:
    async def work() -> None:
        talk = Talk()
        one = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n"
        assert talk.say(one + one[:5]).count(b"200 OK") == 1
        assert talk.say(one[5:]).count(b"200 OK") == 1
        assert talk.say(one + one).count(b"200 OK") == 2
        assert talk.say(one).count(b"200 OK") == 1

    talked(work)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        b"GET / HTTP/1.1\r\nconnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        b"POST / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 9\r\n\r\n",
    ],
)
def test_after_a_last_request_nothing_is_read(head: bytes) -> None:
    async def work() -> None:
        talk = Talk()
        answer = talk.say(head + b"GET /second HTTP/1.1\r\n\r\n")
        assert b"\r\nconnection: close\r\n" in answer
        assert answer.count(b"HTTP/1.1") == 1
        assert len(talk.asked) == 1
        assert talk.wire.is_closing()

    talked(work)


def test_a_header_in_several_lines_is_one_list_and_others_are_not_kept() -> None:
    async def work() -> None:
        talk = Talk()
        talk.say(b"GET / HTTP/1.1\r\nAccept: a\r\ncookie: b\r\naccept: c\r\nAccept-Encoding: gzip\r\n\r\n")
        [request] = talk.asked
        assert request.headers == {"accept": "a,c", "accept-encoding": "gzip"}
        assert (request.header("accept"), request.header("cookie")) == ("a,c", "")

    talked(work)


def test_a_body_that_is_too_long_is_refused_by_its_name() -> None:
    async def work() -> None:
        talk = Talk()
        head = b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999\r\n\r\n"
        assert talk.say(head) == b""
        answer = talk.say(b"x" * MAX_REQUEST_BYTES)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert answer.endswith(b"the request is larger than 65536 bytes\n")
        assert (talk.refused, talk.asked) == ([413], [])

    talked(work)


def test_a_body_is_read_over_and_the_next_request_answered() -> None:
    async def work() -> None:
        talk = Talk()
        assert talk.say(b"POST /a HTTP/1.1\r\ncontent-length: 9\r\n\r\nGET /x HT").count(b"200 OK") == 1
        assert talk.say(b"GET /b HTTP/1.1\r\n\r\n").endswith(b"/b?")

    talked(work)


def test_what_is_no_http_is_answered_behind_what_came_before() -> None:
    async def work() -> None:
        talk = Talk()
        answer = talk.say(b"GET /a HTTP/1.1\r\n\r\nNO HTTP\r\n\r\n")
        assert answer.index(b"/a?") < answer.index(b"HTTP/1.1 400 Bad Request")
        assert b"Invalid HTTP request: " in answer
        assert (talk.refused, talk.wire.is_closing()) == ([400], True)

    talked(work)


def test_half_a_connection_is_enough_for_an_answer() -> None:
    async def work() -> None:
        go = asyncio.Event()

        async def slow(request: Request) -> Response:
            await go.wait()
            return Response(200, (b"page",))

        talk = Talk(slow)
        assert talk.connection.eof_received() is False, "nothing was asked"
        talk = Talk(slow)
        talk.say(b"GET /a HTTP/1.1\r\n\r\n")
        assert talk.connection.eof_received() is True
        assert not talk.wire.is_closing()
        go.set()
        await talk.wire.closed.wait()
        assert talk.wire.sent.endswith(b"\r\n\r\npage")

    talked(work)


def test_a_client_that_left_is_computed_no_page() -> None:
    async def work() -> None:
        cancelled = asyncio.Event()

        async def slow(request: Request) -> Response:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            raise AssertionError

        talk = Talk(slow)
        talk.say(b"GET /a HTTP/1.1\r\n\r\n" * 3)
        await asyncio.sleep(0)
        talk.connection.connection_lost(None)
        await cancelled.wait()
        assert talk.wire.sent == b""

    talked(work)


def test_answers_are_in_the_order_of_their_requests() -> None:
    async def work() -> None:
        async def slow(request: Request) -> Response:
            await asyncio.sleep(0.05)
            return Response(200, (request.path.encode(),))

        def page(request: Request) -> Response | Awaitable[Response]:
            return slow(request) if request.path == "/slow" else Response(200, (request.path.encode(),))

        talk = Talk(page)
        one = b"GET /%b HTTP/1.1\r\nhost: x\r\n\r\n"
        talk.say(one % b"slow" + one % b"quick" + one.replace(b"host", b"connection: close\r\nhost") % b"last")
        await talk.wire.closed.wait()
        assert re.findall(rb"\r\n\r\n/([a-z]+)", talk.wire.sent) == [b"slow", b"quick", b"last"]

    talked(work)


def test_many_answers_take_several_turns() -> None:
    async def work() -> None:
        talk = Talk()
        at_once = talk.say(b"GET /a HTTP/1.1\r\n\r\n" * 60).count(b"200 OK")
        assert 0 < at_once < 60
        while talk.wire.sent.count(b"200 OK") < 60:
            await asyncio.sleep(0)

    talked(work)


def test_the_date_is_written_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []

    def date(seconds: int) -> str:
        written.append(seconds)
        return "D"

    monkeypatch.setattr("exporter.http.connection.http_date", date)
    monkeypatch.setattr("exporter.http.connection.time.time", lambda: 100.5 + len(written) // 3)
    shared = Shared(lambda request: Response(200), ExporterConfig(), Places(8))
    assert [shared.date() for _ in range(5)] == ["D"] * 5
    assert written == [100]


def test_a_trailer_is_no_header_of_the_next_request() -> None:
    async def work() -> None:
        talk = Talk()
        chunked = b"POST /a HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
        talk.say(chunked + b"accept-encoding: gzip\r\nexpect: x\r\n\r\n")
        for _ in range(2):
            assert b"connection: close" not in talk.say(b"GET /b HTTP/1.1\r\n\r\n")
        assert [one.headers for one in talk.asked] == [{}, {}, {}]

    talked(work)


def test_the_turn_of_a_slow_page_is_over_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        talk = Talk()
        at_once = talk.say(b"GET /a HTTP/1.1\r\n\r\n" * 10).count(b"200 OK")
        assert at_once == 1
        while talk.wire.sent.count(b"200 OK") < 10:
            await asyncio.sleep(0)

    monkeypatch.setattr("exporter.http.connection._TURN_SECONDS", 1e-9)
    talked(work)


def test_a_head_is_refused_without_a_body() -> None:
    async def work() -> None:
        places = Places(0)
        talk = Talk(places=places)
        answer = talk.say(b"HEAD /a HTTP/1.1\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert answer.endswith(b"\r\n\r\n")

    talked(work)


WITHOUT_UVLOOP = "import sys; sys.modules['uvloop'] = None\nfrom exporter.__main__ import main; sys.exit(main())"


def test_on_asyncio_s_own_loop_it_answers_and_closes_all_the_same(namespace: str, tmp_path: Path) -> None:
    with (
        exporter(namespace, tmp_path, "", sys.executable, "-c", WITHOUT_UVLOOP) as (_, port),
        connected(port) as one,
    ):
        one.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        assert b"exporter_ring_fresh" not in everything(one), "there are no rings, and the connection was closed"
