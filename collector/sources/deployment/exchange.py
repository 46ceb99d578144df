"""One question, one answer, with a server that may be slow, hostile or gone.

A socket's own timeout is for each read: a server that drips a byte a second would never trip it. So one deadline
covers the exchange from connect to the last byte, and a cap the size of the answer. HTTP goes over TCP or a Unix
socket, follows no redirect and uses no proxy: the address is of this host or beside it, and means what it says.
Only the resolution of a host's name is beyond the deadline (getaddrinfo has none); the collector's timeout covers it.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from shm.errors import ConfigurationError

_READ_BYTES = 65_536  # what one read takes at most; the default buffer of a Unix socket is 208 KiB
# What HTTP may say besides the body: a status line, headers and the sizes of chunks. Servers send less than 1 KiB.
_HTTP_BYTES = 65_536


class ExchangeError(Exception):
    """There is no whole answer; the message is the reason, without the address."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one exchange: all its seconds together, and the bytes of its answer."""

    timeout_seconds: float
    max_reply_bytes: int


@dataclass(frozen=True, slots=True)
class Address:
    """A server, by ``unix_path`` or else by TCP. ``target`` is the path and query of an HTTP request; ``shown``, for
    messages, the address without user and password.
    """

    shown: str
    unix_path: str = ""
    host: str = "localhost"
    port: int = 80
    target: str = "/"
    user: str = ""
    password: str = field(default="", repr=False)


def parse_address(url: str, key: str) -> Address:
    """The server at ``unix:///path`` or ``http://[user:password@]host[:port][/path]``.

    Raises ConfigurationError that names ``key``.
    """
    remedy = "give unix:///path/of/the.sock or http://host:port"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigurationError(f"{key} is {_without_password(url)!r}: {error}; {remedy}") from None
    if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/"):
        return Address(shown=url, unix_path=url[len("unix://") :])
    if parts.scheme == "http" and parts.hostname:
        return Address(
            shown=_without_password(url),
            host=parts.hostname,
            port=80 if port is None else port,
            target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )
    raise ConfigurationError(f"{key} is {_without_password(url)!r}; {remedy}")


def _without_password(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]


def ask_http(address: Address, method: str, target: str, limits: Limits, body: bytes | None = None) -> bytes:
    """The body of the answer, which must be a 200. Raises ExchangeError."""
    headers = {"Content-Type": "text/xml"} if body is not None else {}
    if address.user or address.password:
        token = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
        headers["Authorization"] = f"Basic {token}"
    try:
        with contextlib.closing(_Connection(address, limits)) as connection:
            connection.request(method, target, body, headers)
            with contextlib.closing(connection.getresponse()) as response:
                if response.status != 200:
                    raise ExchangeError(f"it answered HTTP {response.status} {response.reason:.200}".rstrip())
                reply, buffer = bytearray(), bytearray(_READ_BYTES)
                # Not read(): it keeps each chunk as an object until the last is there, 50 bytes for one of 2.
                while count := response.readinto(buffer):
                    reply += memoryview(buffer)[:count]
                    _check_size(len(reply), limits)
                if response.length:
                    raise ExchangeError(f"its answer broke off {response.length} bytes before the end")
                return bytes(reply)
    except (OSError, http.client.HTTPException, ValueError) as error:
        # ValueError: http.client takes a chunk's size to be negative when the server says so.
        raise _reason(error, limits) from error


def ask_line(address: Address, line: str, limits: Limits) -> bytes:
    """All that the server at the Unix socket says to ``line`` until it hangs up. Raises ExchangeError."""
    reply, buffer = bytearray(), bytearray(_READ_BYTES)
    try:
        with _connect(address, limits) as connection:
            connection.sendall(line.encode())
            while count := connection.recv_into(buffer):
                reply += memoryview(buffer)[:count]
                _check_size(len(reply), limits)
    except OSError as error:
        raise _reason(error, limits) from error
    return bytes(reply)


def _check_size(size: int, limits: Limits) -> None:
    if size > limits.max_reply_bytes:
        raise ExchangeError(
            f"its answer is longer than {limits.max_reply_bytes} bytes ([source.deployment] max_reply_bytes)"
        )


def _reason(error: Exception, limits: Limits) -> ExchangeError:
    if isinstance(error, TimeoutError):
        return ExchangeError(f"no whole answer within {limits.timeout_seconds:g} s")
    if isinstance(error, http.client.HTTPException | ValueError):
        return ExchangeError(f"its answer is not HTTP ({type(error).__name__}: {error!s:.200})")
    return ExchangeError(error.strerror if isinstance(error, OSError) and error.strerror else str(error))


class _BoundedSocket(socket.socket):
    """Its operations share one deadline, in seconds of time.monotonic(), and its reads a number of bytes: counted
    below http.client, which reads on for as long as a server says 100 Continue or sends extensions of chunks.
    """

    deadline: float
    limits: Limits
    received_bytes = 0

    def connect(self, address: Any) -> None:
        self._arm()
        super().connect(address)

    def sendall(self, data: Any, flags: int = 0) -> None:
        self._arm()  # sendall itself takes its timeout as the total
        super().sendall(data, flags)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        self._arm()  # before each read: what http.client reads through makefile() ends here too
        count = super().recv_into(buffer, nbytes, flags)
        self.received_bytes += count
        _check_size(self.received_bytes - _HTTP_BYTES, self.limits)
        return count

    def _arm(self) -> None:
        remaining = self.deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self.settimeout(remaining)


def _connect(address: Address, limits: Limits) -> _BoundedSocket:
    deadline = time.monotonic() + limits.timeout_seconds
    if address.unix_path:
        return _connect_one(socket.AF_UNIX, address.unix_path, deadline, limits)
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    except UnicodeError:  # a label that is empty or too long
        raise ExchangeError(f"{address.host!r} can't be the name of a host") from None
    last = OSError("its name has no address")
    for family, _, _, _, place in found:
        try:
            return _connect_one(family, place, deadline, limits)
        except OSError as error:  # the next may answer: "localhost" is ::1 before it is 127.0.0.1
            last = error
    raise last


def _connect_one(family: int, place: Any, deadline: float, limits: Limits) -> _BoundedSocket:
    connection = _BoundedSocket(family, socket.SOCK_STREAM)
    connection.deadline, connection.limits = deadline, limits
    try:
        connection.connect(place)
    except BaseException:
        connection.close()
        raise
    return connection


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: Address, limits: Limits) -> None:
        super().__init__(address.host, address.port)
        self._address = address
        self._limits = limits

    def connect(self) -> None:
        self.sock = _connect(self._address, self._limits)
