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

from collector.exchange import (
    BrokenOff,
    ExchangeError,
    Late,
    Limits,
    NoConnection,
    Request,
    http_request,
    parse_address,
    prepare,
    tls,
)
from collector.exchange import ask as ask_one
from tests.collector import hostile
from tests.programs import find_program, free_port
from tests.stand_ins.betanet import PATHS, BetanetStandIn

LIMITS = Limits(timeout_seconds=10.0, max_reply_bytes=1_000_000)
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
    tls.context.cache_clear()
    yield
    tls.context.cache_clear()


@pytest.fixture
def trusted(certificate: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    return certificate


@contextlib.contextmanager
def server(certificate: Path, behaviour: hostile.Behaviour, *, well_ended: bool = True) -> Iterator[int]:
    """The port of a TLS server; ``well_ended``: it says so when it hangs up, as TLS demands."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def secured(connection: socket.socket, over: threading.Event) -> None:
        with context.wrap_socket(connection, server_side=True) as secure, contextlib.suppress(OSError):
            secure.recv(65_536)
            behaviour(secure, over)
            if well_ended:
                secure.unwrap()

    listener = socket.create_server(("127.0.0.1", 0))
    with hostile.accepting(listener, secured):
        yield listener.getsockname()[1]


def said(text: bytes) -> hostile.Behaviour:
    return lambda connection, _: connection.sendall(text)


def request(port: int, host: str = "127.0.0.1", limits: Limits = LIMITS) -> Request:
    return http_request(parse_address(f"https://{host}:{port}", "KEY", schemes=("https",)), limits)


def failure(one: Request) -> ExchangeError:
    with pytest.raises(ExchangeError) as caught:
        ask_one(one)
    return caught.value


def test_a_certificate_that_is_trusted_is_accepted_and_the_answer_read(trusted: Path) -> None:
    with server(trusted, said(HELLO)) as port:
        assert ask_one(request(port)).body == b"hello"


def test_an_answer_of_many_records_is_read_whole(trusted: Path) -> None:
    body = bytes(range(256)) * 3000
    with server(trusted, said(hostile.http(body))) as port:
        assert ask_one(request(port)).body == body


def test_a_certificate_that_signed_itself_is_refused_with_a_remedy(certificate: Path) -> None:
    with server(certificate, said(HELLO)) as port:
        error = failure(request(port))
    assert isinstance(error, NoConnection)
    assert str(error) == (
        "its certificate is not trusted: self-signed certificate; add its authority's to the certificates of this "
        "host, or name a file of both in SSL_CERT_FILE"
    )


def test_a_certificate_of_another_host_is_refused(trusted: Path) -> None:
    with server(trusted, said(HELLO)) as port:
        error = failure(request(port, "localhost"))
    assert isinstance(error, NoConnection)
    assert "Hostname mismatch, certificate is not valid for 'localhost'" in str(error)


def test_who_speaks_no_tls_is_no_connection() -> None:
    with BetanetStandIn() as plain:
        error = failure(request(plain.port))
    assert isinstance(error, NoConnection)
    assert str(error).startswith("no TLS with it: ")


def test_nobody_there_is_no_connection() -> None:
    assert str(failure(request(free_port()))) == "Connection refused"


def test_a_handshake_that_is_not_answered_is_late() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        error = failure(request(listener.getsockname()[1], limits=Limits(0.3, 1000)))
    assert isinstance(error, Late)


def test_a_body_that_ends_with_the_connection_ends_as_tls_demands(trusted: Path) -> None:
    """Whoever cuts the connection can't shorten it (RFC 9112, 9.8)."""
    text = b"HTTP/1.1 200 OK\r\n\r\nhello"
    with server(trusted, said(text)) as port:
        assert ask_one(request(port)).body == b"hello"
    with server(trusted, said(text), well_ended=False) as port:
        assert isinstance(failure(request(port)), BrokenOff)
    with server(trusted, said(HELLO), well_ended=False) as port:
        assert ask_one(request(port)).body == b"hello"


def test_the_certificates_are_loaded_before_the_first_request() -> None:
    prepare(parse_address("https://host", "KEY", schemes=("https",)))
    assert tls.context.cache_info().currsize == 1


def test_betanet_is_read_over_https(certificate: Path, tmp_path: Path) -> None:
    """As a user would have it: the collector, and the certificate by the environment."""
    config = tmp_path / "fogmetrics.toml"
    command = [sys.executable, "-m", "collector", "betanet", "--once", "--config", str(config)]

    def once(**variables: str) -> subprocess.CompletedProcess[str]:
        environ = {**os.environ, **variables}
        return subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)

    with server(certificate, said(hostile.http(b'{"active_nodes": 5}'))) as port:
        config.write_text(f'[source.betanet]\nurl = "https://127.0.0.1:{port}"\n')
        refused = once()
        accepted = once(SSL_CERT_FILE=str(certificate))
    assert refused.returncode == 1
    assert refused.stderr.count("its certificate is not trusted") == len(PATHS)
    assert "betanet_connections 5.0" in accepted.stdout
