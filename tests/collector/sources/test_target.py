"""An address is read as it was configured, and shown without its password."""

from __future__ import annotations

import pytest

from collector.sources.target import Address, parse_address
from shm.errors import ConfigurationError


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("unix:///run/a.sock", Address("unix:///run/a.sock", "/run/a.sock")),
        ("UNIX:///run/what?is#this.sock", Address("UNIX:///run/what?is#this.sock", "/run/what?is#this.sock")),
        ("http://host", Address("http://host", url="http://host")),
        ("http://host:8080/stats;csv", Address("http://host:8080/stats;csv", url="http://host:8080/stats;csv")),
        ("http://[::1]:9/a?b=c#d", Address("http://[::1]:9/a?b=c#d", url="http://[::1]:9/a?b=c")),
        ("http://joe:p%40ss@host/", Address("http://host/", url="http://host/", user="joe", password="p@ss")),
        ("http://joe:p%40ss@host/a@b", Address("http://host/a@b", "", "http://host/a@b", "joe", "p@ss")),
    ],
)
def test_an_address_is_read_and_shown_without_its_password(url: str, address: Address) -> None:
    assert parse_address(url, "KEY") == address
    assert "p@ss" not in repr(address)


def test_https_is_an_address_where_the_schemes_allow_it() -> None:
    assert parse_address("https://host/a", "KEY", schemes=("http", "https")).url == "https://host/a"
    with pytest.raises(ConfigurationError):
        parse_address("unix:///run/a.sock", "KEY", schemes=("http", "https"))


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
        f"http://{'x' * 64}",
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
