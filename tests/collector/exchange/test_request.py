"""A request is the bytes that are sent, and shows none of what is secret in them."""

from __future__ import annotations

import pytest

from collector.exchange import Limits, http_request, line_request, parse_address
from collector.exchange.address import Address
from shm.errors import ConfigurationError

LIMITS = Limits(1.0, 1000)


def address(url: str) -> Address:
    return parse_address(url, "KEY", schemes=("unix", "http", "https"))


def test_a_get_asks_for_the_addresss_own_target() -> None:
    assert http_request(address("http://host:9/a?b=c"), LIMITS).question == (
        b"GET /a?b=c HTTP/1.1\r\n"
        b"Host: host:9\r\n"
        b"User-Agent: fogmetrics\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Connection: close\r\n"
        b"\r\n"
    )


def test_a_post_has_a_body_with_its_length_and_headers_of_ones_own() -> None:
    headers = {"Content-Type": "application/json", "Authorization": "Bearer token"}
    request = http_request(address("unix:///run/a.sock"), LIMITS, "/v1/list", headers=headers, body=b"{}")
    assert request.question == (
        b"POST /v1/list HTTP/1.1\r\n"
        b"Host: localhost\r\n"
        b"User-Agent: fogmetrics\r\n"
        b"Accept-Encoding: identity\r\n"
        b"Connection: close\r\n"
        b"Content-Type: application/json\r\n"
        b"Authorization: Bearer token\r\n"
        b"Content-Length: 2\r\n"
        b"\r\n"
        b"{}"
    )


def test_user_and_password_are_sent_as_basic_authorization_and_not_shown() -> None:
    request = http_request(address("http://joe:p%40ss@host/"), LIMITS)
    assert b"\r\nAuthorization: Basic am9lOnBAc3M=\r\n" in request.question
    for secret in ("p@ss", "am9lOnBAc3M="):
        assert secret not in repr(request)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://host", "host"),
        ("http://host:80", "host"),
        ("http://host:443", "host:443"),
        ("https://host", "host"),
        ("https://host:443", "host"),
        ("https://host:80", "host:80"),
        ("http://[::1]", "[::1]"),
        ("http://[::1]:9", "[::1]:9"),
        ("http://b\u00fccher.example:9", "xn--bcher-kva.example:9"),
    ],
)
def test_the_host_is_named_as_http_wants_it(url: str, host: str) -> None:
    assert f"\r\nHost: {host}\r\n".encode() in http_request(address(url), LIMITS).question


@pytest.mark.parametrize("value", ["secret\r\nX: y", "secret\n", "secret\0", "secr\u00e9t"])
def test_a_header_that_would_begin_another_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ConfigurationError, match="the header Authorization for http://host has a character") as caught:
        http_request(address("http://joe:x@host"), LIMITS, headers={"Authorization": value})
    assert "secr" not in str(caught.value)


def test_a_line_is_sent_as_it_is() -> None:
    request = line_request(address("unix:///run/a.sock"), LIMITS, "show stat\n")
    assert (request.question, request.http) == (b"show stat\n", False)
