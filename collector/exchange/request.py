"""Request: the bytes that are said to a server, and what its answer may cost. Made once, asked every tick."""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field

from collector.exchange.address import Address
from shm.errors import ConfigurationError

_NO_HEADERS: Mapping[str, str] = {}


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one exchange: all its seconds together, and the bytes of its answer's body.

    ``table`` is the configuration's that sets them, as request_timeout_seconds and max_reply_bytes, for messages.
    """

    timeout_seconds: float
    max_reply_bytes: int
    table: str = ""

    def named(self, key: str) -> str:
        """`` (key of the table)``, to end a message with."""
        return f" ({self.table} {key})" if self.table else ""


@dataclass(frozen=True, slots=True)
class Request:
    """``question`` is sent as it is; it may hold a password. The answer is HTTP, or all until the server hangs up."""

    address: Address
    limits: Limits
    question: bytes = field(repr=False)
    http: bool = True


def line_request(address: Address, limits: Limits, line: str) -> Request:
    """A line of a protocol that has no more than lines, such as HAProxy's stats socket."""
    return Request(address, limits, line.encode(), http=False)


def http_request(
    address: Address,
    limits: Limits,
    target: str = "",
    *,
    headers: Mapping[str, str] = _NO_HEADERS,
    body: bytes | None = None,
) -> Request:
    """GET of ``target``, empty for the address's own; POST of ``body`` where there is one.

    User and password of the address are sent as Basic authorization, unless ``headers`` have another. Raises
    ConfigurationError for a header that can't be sent, without showing its value: it may be a token.
    """
    lines = {"Host": _host(address), "User-Agent": "fogmetrics", "Accept-Encoding": "identity", "Connection": "close"}
    if address.user or address.password:
        login = binascii.b2a_base64(f"{address.user}:{address.password}".encode(), newline=False).decode()
        lines["Authorization"] = f"Basic {login}"
    lines |= headers
    if body is not None:
        lines["Content-Length"] = str(len(body))
    for name, value in lines.items():
        if not (value.isascii() and value.isprintable()):
            raise ConfigurationError(
                f"the header {name} for {address.shown} has a character that HTTP does not allow, such as a line end; "
                "give printable ASCII"
            )
    method = "GET" if body is None else "POST"
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return Request(
        address,
        limits,
        f"{method} {target or address.target} HTTP/1.1\r\n{head}\r\n".encode("ascii") + (body or b""),
    )


def _host(address: Address) -> str:
    host = f"[{address.host}]" if ":" in address.host else address.host
    return host if address.port == (443 if address.secure else 80) else f"{host}:{address.port}"
