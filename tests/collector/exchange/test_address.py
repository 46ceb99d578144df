"""An address is read as it was configured, and shown without its password."""

from __future__ import annotations

import pytest

from collector.exchange import Address, parse_address
from shm.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("unix:///run/a.sock", Address("unix:///run/a.sock", "/run/a.sock")),
        ("UNIX:///run/what?is#this.sock", Address("UNIX:///run/what?is#this.sock", "/run/what?is#this.sock")),
        ("http://host", Address("http://host", "", "host", 80, "/")),
        ("http://host:8080/stats;csv", Address("http://host:8080/stats;csv", "", "host", 8080, "/stats;csv")),
        ("http://[::1]:9/a?b=c", Address("http://[::1]:9/a?b=c", "", "::1", 9, "/a?b=c")),
        ("http://joe:p%40ss@host/", Address("http://host/", "", "host", 80, "/", "joe", "p@ss")),
        ("http://joe:p%40ss@host/a@b", Address("http://host/a@b", "", "host", 80, "/a@b", "joe", "p@ss")),
    ],
)
def test_an_address_is_read_and_shown_without_its_password(url: str, address: Address) -> None:
    assert parse_address(url, "KEY") == address
    assert "p@ss" not in repr(address)


def test_a_host_of_other_letters_is_known_by_its_ascii_name() -> None:
    address = parse_address("http://b\u00fccher.example/", "KEY")
    assert (address.host, address.shown) == ("xn--bcher-kva.example", "http://b\u00fccher.example/")


def test_https_is_an_address_for_those_who_allow_it() -> None:
    address = parse_address("https://host/a", "KEY", schemes=("http", "https"))
    assert (address.secure, address.host, address.port, address.target) == (True, "host", 443, "/a")
    assert parse_address("https://host:9", "KEY", schemes=("https",)).port == 9
    with pytest.raises(ConfigurationError):
        parse_address("unix:///run/a.sock", "KEY", schemes=("http", "https"))


def test_a_target_is_what_a_line_of_http_can_hold() -> None:
    """A space would end it, a line end begin a header."""
    assert parse_address("http://host/a b\r\nX: y?ü=%20", "KEY").target == "/a%20bX:%20y?%C3%BC=%20"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "host",
        "/run/a.sock",
        "unix:run/a.sock",
        "unix://run/a.sock",
        "unix://",
        "http://",
        "http:///stats",
        "https://host",
        "ftp://host",
        "http://host:port",
        "http://host:99999",
        "http://[::1",
        "http://\u00fc..host",
    ],
)
def test_what_can_be_no_address_is_refused_with_key_value_and_remedy(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_address(url, "KEY")
    for word in ("KEY", repr(url), "give unix:///path/of/the.sock or http://host:port"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://joe:secret@host:port",
        "http://joe:secret/x@host",  # "Port could not be cast to integer value as 'secret'"
        "http://joe:secret@[::1",
        "http://joe:secret\uff0f@host",  # "netloc 'joe:secret…' contains invalid characters"
        "ftp://joe:secret@host",
        "joe:secret@host",
    ],
)
def test_a_password_in_what_can_be_no_address_is_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_address(url, "KEY")
    assert "secret" not in str(caught.value)
    assert "host" in str(caught.value) or "[::1" in str(caught.value)
