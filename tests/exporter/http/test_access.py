"""Passwords, headers and the rate limit of a web configuration file, asked for over the exporter's own socket."""

from __future__ import annotations

import contextlib
import select
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt
import httpx
import pytest

from exporter.http.access import MOST_WAITING, Passwords
from tests.exporter.http.test_server import counted
from tests.exporter.test_main import exporter
from tests.exporter.wire import answer, connected
from tests.programs import Program, wait_until


def hashed(password: str, cost: int = 4) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


USERS = f"basic_auth_users:\n  joe: {hashed('secret')}\n"
SLOW = f"basic_auth_users:\n  joe: {hashed('secret', 12)}\n"


@contextlib.contextmanager
def guarded(namespace: str, directory: Path, text: str, more: str = "") -> Iterator[tuple[Program, int]]:
    (directory / "web.yml").write_text(text)
    with exporter(namespace, directory, f'web_config = "{directory / "web.yml"}"\n{more}') as (program, port):
        yield program, port


def get(port: int, user: str = "", password: str = "", path: str = "/metrics") -> httpx.Response:
    login = httpx.BasicAuth(user, password) if user else None
    return httpx.get(f"http://127.0.0.1:{port}{path}", auth=login, trust_env=False, timeout=20)


def test_every_path_needs_a_password(namespace: str, tmp_path: Path) -> None:
    with guarded(namespace, tmp_path, USERS) as (program, port):
        for path in ("/", "/metrics", "/metrics/aggregated", "/stats", "/health", "/-/healthy", "/nothing"):
            refused = get(port, path=path)
            assert refused.status_code == 401, path
            assert refused.headers["www-authenticate"] == 'Basic realm="fogmetrics", charset="UTF-8"'
        for user, password in (("joe", "wrong"), ("joe", ""), ("jo", "secret"), ("jim", "secret"), ("joe", "secret ")):
            assert get(port, user, password).status_code == 401, (user, password)
        for _ in range(2):
            assert get(port, "joe", "secret").status_code == 200
            assert get(port, "joe", "secreT").status_code == 401
            assert get(port, "joe", "secret", "/nothing").status_code == 404
        assert "Traceback" not in program.log()


@pytest.mark.parametrize(
    "header",
    [
        "Basic",
        "Basic !",
        "Basic am9l",
        "Bearer am9lOnNlY3JldA==",
        "Basic am9lOnNlY3JldA==, Basic am9lOnNlY3JldA==",
        "é",
    ],
)
def test_a_header_that_holds_no_login_is_answered_401(namespace: str, tmp_path: Path, header: str) -> None:
    with guarded(namespace, tmp_path, USERS) as (program, port), connected(port) as one:
        one.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: " + header.encode("latin-1") + b"\r\n\r\n")
        assert answer(one).startswith(b"HTTP/1.1 401 ")
        assert "Traceback" not in program.log()


def test_refused_requests_are_counted(namespace: str, tmp_path: Path) -> None:
    with guarded(namespace, tmp_path, USERS) as (_, port):
        get(port)
        (tmp_path / "web.yml").write_text("")
        assert counted(port, "none", 401) == 1


def test_users_that_change_hold_from_the_next_request_on(namespace: str, tmp_path: Path) -> None:
    with guarded(namespace, tmp_path, USERS) as (_, port), httpx.Client(trust_env=False, timeout=20) as client:
        url = f"http://127.0.0.1:{port}/metrics"
        assert client.get(url, auth=("joe", "secret")).status_code == 200
        (tmp_path / "web.yml").write_text(f"basic_auth_users:\n  joe: {hashed('new')}\n  ann: {hashed('own')}\n")
        assert client.get(url, auth=("joe", "secret")).status_code == 401, "the old password is still remembered"
        assert client.get(url, auth=("joe", "new")).status_code == 200
        assert client.get(url, auth=("ann", "own")).status_code == 200


def test_wrong_passwords_do_not_stall_a_scraper_whose_password_is_known(namespace: str, tmp_path: Path) -> None:
    guess = b"GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic c2xvdzpndWVzcw==\r\n\r\n"
    keys = f"{USERS}  slow: $2b$15${'.' * 53}\n"  # of no password: seconds for each check
    with guarded(namespace, tmp_path, keys) as (program, port), contextlib.ExitStack() as stack:
        assert get(port, "joe", "secret").status_code == 200
        guessing = [stack.enter_context(connected(port)) for _ in range(MOST_WAITING + 3)]
        for one in guessing:
            one.sendall(guess)
        wait_until(lambda: len(select.select(guessing, [], [], 0)[0]) >= 3, 20, "those that may not wait")
        assert {answer(one)[:13] for one in select.select(guessing, [], [], 0)[0]} >= {b"HTTP/1.1 503 "}
        for _ in range(20):
            assert get(port, "joe", "secret").status_code == 200
        assert len(select.select(guessing, [], [], 0)[0]) < MOST_WAITING, "nothing was being checked meanwhile"
        program.process.kill()  # the rest of its checks would take half a minute


def test_one_right_password_is_enough_for_all_that_wait_with_it(namespace: str, tmp_path: Path) -> None:
    with guarded(namespace, tmp_path, SLOW) as (_, port), ThreadPoolExecutor(MOST_WAITING) as pool:
        found = [pool.submit(get, port, "joe", "secret") for _ in range(MOST_WAITING)]
        assert {one.result().status_code for one in found} == {200}


def test_headers_are_on_every_answer(namespace: str, tmp_path: Path) -> None:
    headers = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n"
    with guarded(namespace, tmp_path, USERS + headers) as (_, port):
        for found in (get(port), get(port, "joe", "secret"), get(port, "joe", "secret", "/nothing")):
            assert found.headers["x-frame-options"] == "deny", found
        (tmp_path / "web.yml").write_text(headers.replace("deny", "sameorigin"))
        assert get(port).headers["x-frame-options"] == "sameorigin"


def test_requests_beyond_the_rate_are_answered_429(namespace: str, tmp_path: Path) -> None:
    with guarded(namespace, tmp_path, "rate_limit:\n  interval: 1h\n  burst: 3\n") as (_, port):
        assert [get(port).status_code for _ in range(5)] == [200, 200, 200, 429, 429]
        assert get(port).headers["retry-after"] == "3600"
        (tmp_path / "web.yml").write_text("rate_limit:\n  interval: 0\n")
        assert get(port).status_code == 200


def test_a_burst_of_none_refuses_all_as_exporter_toolkit_does(namespace: str, tmp_path: Path) -> None:
    with guarded(namespace, tmp_path, "rate_limit:\n  interval: 1ms\n") as (_, port):
        assert get(port).status_code == 429


def test_the_authorization_header_does_not_end_the_limits_of_a_request(namespace: str, tmp_path: Path) -> None:
    with guarded(namespace, tmp_path, USERS) as (_, port), socket.create_connection(("127.0.0.1", port), 20) as one:
        one.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic " + b"a" * 70_000)
        assert one.recv(100).startswith(b"HTTP/1.1 400 ")


def test_passwords_longer_than_bcrypt_takes_are_cut_as_htpasswd_cuts_them() -> None:
    long = b"x" * 100
    passwords = Passwords({"joe": bcrypt.hashpw(long[:72], bcrypt.gensalt(4)).decode().replace("$2b$", "$2y$")})
    assert passwords.check(b"joe", long)
    assert not passwords.check(b"joe", long[:71])


def test_an_unknown_user_costs_no_more_than_the_cheapest_of_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    monkeypatch.setattr(bcrypt, "checkpw", lambda password, one: checked.append(one.decode()[:6]))
    passwords = Passwords({"a": hashed("a", 5), "b": hashed("b", 4), "c": hashed("c", 6)})
    assert not passwords.check(b"nobody", b"x")
    assert checked == ["$2b$04"]


def test_an_unknown_user_takes_the_work_of_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    costs, check = [], bcrypt.checkpw

    def counting(password: bytes, one: bytes) -> bool:
        costs.append(one[4:6])
        return check(password, one)

    monkeypatch.setattr(bcrypt, "checkpw", counting)
    passwords = Passwords({"joe": hashed("secret", 5)})
    assert [passwords.check(user, b"wrong") for user in (b"joe", b"jim")] == [False, False]
    assert costs == [b"05", b"05"]


def test_a_remembered_password_is_not_kept_as_it_is() -> None:
    passwords = Passwords({"joe": hashed("secret")})
    assert not passwords.remembers(b"joe", b"secret")
    assert passwords.check(b"joe", b"secret")
    assert passwords.remembers(b"joe", b"secret")
    assert not passwords.remembers(b"joe", b"other")
    assert not passwords.remembers(b"ann", b"secret")
    assert "secret" not in repr(vars(passwords))
