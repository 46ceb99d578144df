"""Where the exporter listens, and what is said when it can't."""

from __future__ import annotations

import errno
import os
import re
import socket
from pathlib import Path

import pytest

from exporter.http.address import refused, resolve, url
from exporter.settings import ExporterConfig
from fogmetrics.config import Config
from shm.errors import ConfigurationError


def config(listen: str, port: int = 80) -> Config:
    return Config(path=Path("fog.toml"), exporter=ExporterConfig(listen=listen, port=port))


def test_an_address_is_resolved_with_its_family() -> None:
    assert resolve(config("127.0.0.1"))[::3] == (socket.AF_INET, ("127.0.0.1", 80))
    assert resolve(config("::1"))[::3] == (socket.AF_INET6, ("::1", 80, 0, 0))


@pytest.mark.parametrize("listen", ["a..b", "x" * 300, "a\0b", "no such host"])
def test_what_is_no_address_is_refused_in_one_sentence(listen: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"fog.toml: [exporter] listen is {listen!r}: ")):
        resolve(config(listen))


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (
            errno.EADDRNOTAVAIL,
            "fog.toml: [exporter] listen is '8.8.8.8', which is not an address of this host; give",
        ),
        (errno.EACCES, "fog.toml: [exporter] port is 80, which this user may not use: Permission denied; give one"),
        (errno.EAFNOSUPPORT, "fog.toml: [exporter] listen is '8.8.8.8', port is 80: Address family not supported"),
    ],
)
def test_address_and_port_are_blamed_each_for_its_own(number: int, says: str) -> None:
    assert str(refused(config("8.8.8.8"), OSError(number, os.strerror(number)))).startswith(says)


def test_a_url_has_an_address_of_ipv6_in_brackets() -> None:
    assert url("::1", 9200) == "http://[::1]:9200"
    assert url("localhost", 9200) == "http://localhost:9200"
