"""https is asked with a certificate that is trusted, or not at all."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.sources import http_client
from collector.sources.http_client import HttpClient
from collector.sources.target import Limits, NoReply, parse_address
from tests.collector import hostile
from tests.programs import find_program, free_port
from tests.stand_ins.betanet import PATHS, BetanetStandIn

LIMITS = Limits(10.0, 1_000_000, "[source.x]")
HELLO = hostile.http(b"hello")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of 127.0.0.1 in one file, signed by itself."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        [
            *(find_program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "2", "-subj", "/CN=a test", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", str(path), "-out", f"{path}.crt"),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + Path(f"{path}.crt").read_text())
    return path


@pytest.fixture(autouse=True)
def _certificates_anew() -> Iterator[None]:
    http_client._certificates.cache_clear()
    yield
    http_client._certificates.cache_clear()


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return certificate


@contextlib.contextmanager
def server(certificate: Path, behaviour: hostile.Behaviour) -> Iterator[int]:
    """The port of a TLS server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def secured(connection: socket.socket, over: threading.Event) -> None:
        with context.wrap_socket(connection, server_side=True) as secure, contextlib.suppress(OSError):
            behaviour(secure, over)

    listener = socket.create_server(("127.0.0.1", 0))
    with hostile.accepting(listener, secured):
        yield listener.getsockname()[1]


def get(port: int, host: str = "127.0.0.1", limits: Limits = LIMITS) -> bytes:
    address = parse_address(f"https://{host}:{port}", "KEY", schemes=("https",))
    return HttpClient(address, limits).exchange(address.url).reply()


def failure(port: int, host: str = "127.0.0.1", limits: Limits = LIMITS) -> str:
    with pytest.raises(NoReply) as caught:
        get(port, host, limits)
    return str(caught.value)


def test_a_certificate_that_is_trusted_is_accepted_and_the_reply_read(trusted: Path) -> None:
    with server(trusted, hostile.says(HELLO)) as port:
        assert get(port) == b"hello"


def test_a_reply_of_many_records_is_read_whole(trusted: Path) -> None:
    body = bytes(range(256)) * 3000
    with server(trusted, hostile.says(hostile.http(body))) as port:
        assert get(port) == body


def test_a_connection_that_is_cut_is_not_the_end_of_a_reply(trusted: Path) -> None:
    # Closed without TLS's own word for it: the reply, which tells no length, may lack its end.
    with server(trusted, hostile.says(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it")) as port:
        assert "its answer broke off" in failure(port)


def test_a_certificate_that_signed_itself_is_refused_with_a_remedy(certificate: Path) -> None:
    with server(certificate, hostile.says(HELLO)) as port:
        assert failure(port) == (
            "its certificate is not trusted: self-signed certificate; add its authority's to the certificates of this "
            "host, or name a file of both in SSL_CERT_FILE"
        )


def test_a_certificate_of_another_host_is_refused(trusted: Path) -> None:
    with server(trusted, hostile.says(HELLO)) as port:
        assert "Hostname mismatch, certificate is not valid for 'localhost'" in failure(port, "localhost")


def test_a_server_that_speaks_no_tls_is_no_connection() -> None:
    with BetanetStandIn() as plain:
        assert failure(plain.port).startswith("no TLS with it: ")


def test_where_nobody_listens_there_is_no_connection() -> None:
    assert failure(free_port()) == "no connection: Connection refused"


def test_a_handshake_that_is_not_answered_is_late() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert "no whole answer within 0.3 s" in failure(
            listener.getsockname()[1], limits=Limits(0.3, 1000, "[source.x]")
        )


def test_a_head_that_is_trickled_is_late(trusted: Path) -> None:
    with server(trusted, hostile.drips(b"HTTP/1.1 200 OK\r\nX: ")) as port:
        assert "no whole answer within 0.5 s" in failure(port, limits=Limits(0.5, 1000, "[source.x]"))


def test_betanet_is_read_over_https(certificate: Path, tmp_path: Path) -> None:
    """As a user would have it: the collector, and the certificate by the environment."""
    config = tmp_path / "fogmetrics.toml"
    command = [sys.executable, "-m", "collector", "betanet", "--once", "--config", str(config)]

    def once(**variables: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, **variables}
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    with server(certificate, hostile.says(hostile.http(b'{"active_nodes": 5}'))) as port:
        config.write_text(f'[source.betanet]\nurl = "https://127.0.0.1:{port}"\n')
        refused = once()
        accepted = once(SSL_CERT_FILE=str(certificate))
    assert refused.returncode == 1
    assert refused.stderr.count("its certificate is not trusted") == len(PATHS)
    assert "betanet_connections 5.0" in accepted.stdout
