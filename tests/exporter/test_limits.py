"""What one connection may cost, over real sockets."""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from collector.collector import MetricCollector
from shm.catalog import Metric
from shm.config import ExporterConfig
from tests.exporter.test_main import exporter, get
from tests.programs import Program

MAX_REQUEST_BYTES = ExporterConfig().max_request_bytes
QUICK = "request_seconds = 0.5\nanswer_seconds = 0.5\n"
WITHOUT = "import sys; sys.modules['exporter.limits'] = None\nfrom exporter.__main__ import main; sys.exit(main())"
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
    with MetricCollector("s", namespace=namespace, capacity=8, max_series=2000) as collector:
        collector.register(Metric("x", "gauge", "X.", "", ("label",)))
        collector.max_series_per_metric = 2000
        for i in range(1500):
            collector.record_metric("x", 1.0, {"label": f"{i:0128}"})
        collector.commit()
        with exporter(namespace, tmp_path, QUICK) as (program, port):
            with connected(port) as one:
                one.sendall(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 60)  # 13 MB, more than the kernel buffers
                assert one.recv(1) == b"H"
                program.wait_until(lambda: connections(program) == 0, 20, "the connection to be closed")
                assert everything(one).count(b"TTP/1.1 200") < 60
            assert len(get(port, "/metrics").content) > 200_000


def test_a_request_is_refused_only_where_every_place_is_busy_with_an_answer(namespace: str, tmp_path: Path) -> None:
    with MetricCollector("s", namespace=namespace, capacity=8, max_series=2000) as collector:
        collector.register(Metric("x", "gauge", "X.", "", ("label",)))
        collector.max_series_per_metric = 2000
        for i in range(1500):
            collector.record_metric("x", 1.0, {"label": f"{i:0128}"})
        collector.commit()
        with exporter(namespace, tmp_path, "max_connections = 1\n") as (_, port):
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


def test_with_a_uvicorn_that_the_limits_do_not_fit_it_serves_without_them(namespace: str, tmp_path: Path) -> None:
    with exporter(namespace, tmp_path, "", sys.executable, "-c", WITHOUT) as (program, port):
        assert get(port, "/metrics").status_code == 200
        assert 'event="no limits on connections"' in program.log()
