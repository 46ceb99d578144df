"""Addresses of servers that sources read, the limits of a request, and the error NoReply.

    unix:///path/of/the.sock            a Unix socket
    http://user:password@host:port/path TCP; https: TLS over it

Parsing an address looks up no names.
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
    """Limits of one request: its time, from the name look-up to the last byte, and the size of the reply's body.

    They are the keys request_timeout_seconds and max_reply_bytes of ``table`` in the configuration.
    """

    timeout_seconds: float
    max_reply_bytes: int
    table: str

    def late(self) -> NoReply:
        return NoReply(f"no whole answer within {self.timeout_seconds:g} s ({self.table} request_timeout_seconds)")

    def too_long(self) -> NoReply:
        return NoReply(f"its answer is longer than {self.max_reply_bytes} bytes ({self.table} max_reply_bytes)")


class NoReply(FogmetricsError):
    """The request has no complete and usable reply. The message has the reason, without the address.

    ``status`` is the HTTP status of the reply, or 0 without one.
    """

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


def parse_address(url: str, key: str, *, schemes: Collection[str] = ("unix", "http"), remedy: str = _REMEDY) -> Address:
    """Parse ``url``, whose scheme must be one of ``schemes``: unix, http and https.

    Raises ConfigurationError, which names ``key``, shows no password and ends with ``remedy``.
    """
    # urlsplit's own error message may contain the password, so it is not repeated.
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
    """A malformed ``url`` without parts that could be a password."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]
