"""The exporter's process behind a web configuration file with TLS, asked by clients of other makers."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.exporter.certificates import Authority
from tests.exporter.http.test_server import PAGE, large_page
from tests.exporter.test_main import exporter, once
from tests.exporter.wire import REQUEST, SECONDS, connected, everything
from tests.programs import Program, find_program, wait_until

TLS = "tls_server_config:\n  cert_file: server.pem\n  key_file: server.key\n"
CLIENTS = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.pem\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("made")
    authority = Authority(directory)
    authority.certificate("server")
    authority.certificate("client", "DNS:scraper,IP:10.0.0.1,IP:2001:db8::1,email:a@b.example,URI:spiffe://fog/scraper")
    Authority(directory, "stranger").certificate("impostor", "DNS:scraper")
    return directory


@contextlib.contextmanager
def secured(
    namespace: str, directory: Path, made: Path, keys: str = "", more: str = ""
) -> Iterator[tuple[Program, int]]:
    """An exporter with TLS. ``keys``: more of tls_server_config; ``more``: of [exporter]."""
    for one in made.iterdir():
        (directory / one.name).write_bytes(one.read_bytes())
    (directory / "web.yml").write_text(TLS + keys)
    with exporter(namespace, directory, f'web_config = "{directory / "web.yml"}"\n{more}') as (program, port):
        assert "url=https://127.0.0.1:" in program.log()
        yield program, port


def trusting(directory: Path, client: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=directory / "ca.pem")
    if client:
        context.load_cert_chain(directory / f"{client}.pem", directory / f"{client}.key")
    return context


def get(port: int, context: ssl.SSLContext, path: str = "/metrics") -> httpx.Response:
    return httpx.get(f"https://127.0.0.1:{port}{path}", verify=context, trust_env=False, timeout=20)


def s_client(port: int, *options: str) -> str:
    """What openssl says after a handshake."""
    command = [find_program("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", *options]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_pages_are_served_to_clients_that_verify_the_certificate(namespace: str, tmp_path: Path, made: Path) -> None:
    with large_page(namespace), secured(namespace, tmp_path, made) as (program, port):
        with httpx.Client(verify=trusting(tmp_path), trust_env=False, timeout=20) as client:
            for path in ("/metrics", "/metrics/aggregated", "/metrics", "/health"):
                assert client.get(f"https://127.0.0.1:{port}{path}").status_code == 200, path
        assert "Verify return code: 0 (ok)" in s_client(port, "-CAfile", str(tmp_path / "ca.pem"))
        with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
            get(port, ssl.create_default_context())
        program.process.send_signal(signal.SIGTERM)
        assert program.process.wait(30) == 0
        assert "Traceback" not in program.log()


def test_one_web_configuration_is_for_all_listeners(namespace: str, tmp_path: Path, made: Path) -> None:
    path = tmp_path / "x.sock"
    with secured(namespace, tmp_path, made, more=f'listen = ["127.0.0.1", "unix:{path}"]\n') as (program, port):
        assert get(port, trusting(tmp_path)).status_code == 200
        transport = httpx.HTTPTransport(uds=str(path), verify=trusting(tmp_path))
        with httpx.Client(transport=transport, timeout=20) as client:
            assert client.get("https://localhost/metrics").status_code == 200
        with (
            httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), timeout=20) as plain,
            pytest.raises(httpx.TransportError),
        ):
            plain.get("http://localhost/metrics")
        assert "Traceback" not in program.log()


def test_versions_and_suites_are_those_of_the_file(namespace: str, tmp_path: Path, made: Path) -> None:
    keys = "  max_version: TLS12\n  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n"
    with secured(namespace, tmp_path, made, keys) as (_, port):
        assert "ECDHE-ECDSA-AES256-GCM-SHA384" in s_client(port, "-tls1_2")
        assert "Cipher is (NONE)" in s_client(port, "-tls1_3")
        assert "Cipher is (NONE)" in s_client(port, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_a_curve_is_the_one_of_the_file(namespace: str, tmp_path: Path, made: Path, version: str) -> None:
    with secured(namespace, tmp_path, made, "  curve_preferences: [CurveP384]\n") as (_, port):
        assert "Cipher is (NONE)" not in s_client(port, version, "-groups", "P-256:P-384")
        assert "Cipher is (NONE)" in s_client(port, version, "-groups", "X25519:P-256")


def test_clients_need_a_certificate_of_the_authority(namespace: str, tmp_path: Path, made: Path) -> None:
    with secured(namespace, tmp_path, made, CLIENTS) as (program, port):
        assert get(port, trusting(tmp_path, "client")).status_code == 200
        for client in ("", "impostor"):
            with pytest.raises(httpx.TransportError):
                get(port, trusting(tmp_path, client))
        assert "TLS handshake failed" in program.log()
        assert "client=127.0.0.1" in program.log()
        assert "Traceback" not in program.log()


def test_a_certificate_that_is_not_needed_is_verified_all_the_same(namespace: str, tmp_path: Path, made: Path) -> None:
    keys = CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven")
    with secured(namespace, tmp_path, made, keys) as (_, port):
        for client in ("", "client"):
            assert get(port, trusting(tmp_path, client)).status_code == 200
        with pytest.raises(httpx.TransportError):
            get(port, trusting(tmp_path, "impostor"))


@pytest.mark.parametrize(
    ("allowed", "comes_in"),
    [
        ("[other, scraper]", True),
        ("[10.0.0.1]", True),
        ('["2001:db8::1"]', True),
        ("[a@b.example]", True),
        ('["spiffe://fog/scraper"]', True),
        ("[other, scrap]", False),
    ],
)
def test_a_client_needs_one_of_the_allowed_names(
    namespace: str, tmp_path: Path, made: Path, allowed: str, comes_in: bool
) -> None:
    with secured(namespace, tmp_path, made, f"{CLIENTS}  client_allowed_sans: {allowed}\n") as (program, port):
        if comes_in:
            assert get(port, trusting(tmp_path, "client")).status_code == 200
        else:
            with pytest.raises(httpx.TransportError):
                get(port, trusting(tmp_path, "client"))
            assert "client_allowed_sans has no name of the client's certificate" in program.log()


def test_a_new_certificate_is_served_without_a_restart(namespace: str, tmp_path: Path, made: Path) -> None:
    with secured(namespace, tmp_path, made) as (program, port):
        old = trusting(tmp_path)
        assert get(port, old).status_code == 200
        (tmp_path / "server.key").write_text("half of a ke")
        assert get(port, old).status_code == 200, "the last good certificate is gone"
        assert get(port, old).status_code == 200
        assert program.log().count("web configuration is wrong, the last good one stays") == 1
        Authority(tmp_path).certificate("server")
        assert get(port, trusting(tmp_path)).status_code == 200
        assert "web configuration reread" in program.log()
        with pytest.raises(httpx.ConnectError):
            get(port, old)


def test_another_policy_for_clients_holds_without_a_restart(namespace: str, tmp_path: Path, made: Path) -> None:
    with secured(namespace, tmp_path, made) as (_, port):
        assert get(port, trusting(tmp_path)).status_code == 200
        (tmp_path / "web.yml").write_text(TLS + CLIENTS)
        with pytest.raises(httpx.TransportError):
            get(port, trusting(tmp_path))
        assert get(port, trusting(tmp_path, "client")).status_code == 200


def test_a_connection_without_tls_is_closed_and_others_are_served(namespace: str, tmp_path: Path, made: Path) -> None:
    with secured(namespace, tmp_path, made) as (program, port):
        with connected(port) as plain:
            plain.sendall(REQUEST)
            assert b"HTTP/1.1 200" not in everything(plain)
        with connected(port) as gone:
            gone.sendall(b"\x16\x03\x01")
        assert get(port, trusting(tmp_path)).status_code == 200
        assert "Traceback" not in program.log()


def test_a_handshake_that_is_not_whole_in_time_ends_its_connection(namespace: str, tmp_path: Path, made: Path) -> None:
    with (
        secured(namespace, tmp_path, made, more="request_seconds = 0.5\n") as (program, port),
        connected(port) as silent,
        connected(port) as half,
    ):
        half.sendall(b"\x16\x03\x01\x02\x00\x01")
        assert everything(half) == everything(silent) == b""
        assert "Traceback" not in program.log()


def test_handshakes_count_as_connections_and_make_room(namespace: str, tmp_path: Path, made: Path) -> None:
    more = "max_connections = 4\nrequest_seconds = 600.0\n"
    with secured(namespace, tmp_path, made, more=more) as (_, port), contextlib.ExitStack() as stack:
        silent = [stack.enter_context(connected(port)) for _ in range(8)]
        assert get(port, trusting(tmp_path)).status_code == 200
        assert everything(silent[0]) == b"", "the connection that rests longest is still open"


def test_an_answer_that_is_not_taken_ends_its_connection(namespace: str, tmp_path: Path, made: Path) -> None:
    keys = "answer_seconds = 0.5\nkeep_alive_seconds = 600.0\n"
    with (
        large_page(namespace),
        secured(namespace, tmp_path, made, more=keys) as (program, port),
        socket.socket() as raw,
    ):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.settimeout(SECONDS)
        raw.connect(("127.0.0.1", port))
        with trusting(tmp_path).wrap_socket(raw, server_hostname="127.0.0.1") as one:
            one.sendall(PAGE * 50)
            wait_until(lambda: _connections(program.pid, port) == 0, 20, "the connection to end")


def _connections(pid: int, port: int) -> int:
    sockets = {os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()}
    lines = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(
        line[1].endswith(f":{port:04X}") and line[3] == "01" and f"socket:[{line[9]}]" in sockets for line in lines
    )


def test_a_wrong_file_is_said_at_the_start_with_a_status_that_nobody_retries(namespace: str, tmp_path: Path) -> None:
    (tmp_path / "web.yml").write_text("basic_auth_user: {}\n")
    done = once(namespace, tmp_path, '[exporter]\nport = 0\nweb_config = "web.yml"\n')
    assert done.returncode == 78
    assert done.stderr == "exporter: web.yml has no table 'basic_auth_user'; did you mean 'basic_auth_users'?\n"
