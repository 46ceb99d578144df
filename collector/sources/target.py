"""A server that is asked: its address as the configuration names it, the limits of a request, its failure.

    unix:///path/of/the.sock            a Unix socket
    http://user:password@host:port/path TCP; https: TLS over it

Nothing is looked up here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from shm.errors import ConfigurationError, FogmetricsError

_REMEDY = "give unix:///path/of/the.sock or http://host:port"


@dataclass(frozen=True, slots=True)
class Address:
    """A server: ``unix_path``, or else the host of ``url``. ``url`` and ``shown``, for messages, have no password."""

    shown: str
    unix_path: str = ""
    url: str = "http://localhost"
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Limits:
    """The time of one request, from the name look-up to the last byte, and the size of its reply's body.

    ``table`` of the configuration sets them, as request_timeout_seconds and max_reply_bytes.
    """

    timeout_seconds: float
    max_reply_bytes: int
    table: str

    def late(self) -> NoReply:
        return NoReply(f"no whole answer within {self.timeout_seconds:g} s ({self.table} request_timeout_seconds)")

    def too_long(self) -> NoReply:
        return NoReply(f"its answer is longer than {self.max_reply_bytes} bytes ({self.table} max_reply_bytes)")


class NoReply(FogmetricsError):
    """There is no whole reply that can be used. The message is the reason alone, without the address.

    ``status`` is that of the HTTP reply where one came, else 0.
    """

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


def parse_address(url: str, key: str, *, schemes: Collection[str] = ("unix", "http"), remedy: str = _REMEDY) -> Address:
    """The server at ``url``, of one of the ``schemes`` unix, http and https.

    Raises ConfigurationError that names ``key``, shows no password and ends with ``remedy``.
    """
    # The message of urlsplit's own error may hold the password, so it is not repeated.
    refused = ConfigurationError(f"{key} is {_without_password(url)!r}; {remedy}")
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port, host and host.encode("idna")
    except ValueError:  # UnicodeError is one
        raise refused from None
    if parts.scheme not in schemes:
        raise refused
    if parts.scheme == "unix":
        if parts.netloc or not parts.path.startswith("/"):
            raise refused
        return Address(shown=url, unix_path=url[len("unix://") :])
    if not host:
        raise refused
    shown = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return Address(
        shown=shown.geturl(),
        url=shown._replace(fragment="").geturl(),
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
    )


def _without_password(url: str) -> str:
    """A malformed ``url`` without any part that could be a password."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]
