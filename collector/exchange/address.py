"""Address: whom to ask, as the configuration names it.

    unix:///path/of/the.sock            a Unix socket
    http://user:password@host:port/path TCP; https: TLS over it

Pure: nothing is looked up here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from shm.errors import ConfigurationError

_PORTS = {"http": 80, "https": 443}
_REMEDY = "give unix:///path/of/the.sock or http://host:port"
# What a target keeps as it is; a space or a letter beyond ASCII would end or garble the line that it is sent in.
_TARGET_CHARACTERS = "!#$%&'()*+,/:;=?@[]~"


@dataclass(frozen=True, slots=True)
class Address:
    """A server, by ``unix_path`` or else by TCP, ``secure`` with TLS. ``host`` is ASCII; ``target`` the path and query
    of an HTTP request; ``shown``, for messages, the address without user and password.
    """

    shown: str
    unix_path: str = ""
    host: str = "localhost"
    port: int = 80
    target: str = "/"
    user: str = ""
    password: str = field(default="", repr=False)
    secure: bool = False


def parse_address(url: str, key: str, *, schemes: Collection[str] = ("unix", "http"), remedy: str = _REMEDY) -> Address:
    """The server at ``url``, of one of the ``schemes`` unix, http and https.

    Raises ConfigurationError that names ``key``, shows no password and ends with ``remedy``.
    """
    # What urlsplit says of an error may hold the password, and is not repeated.
    refused = ConfigurationError(f"{key} is {_without_password(url)!r}; {remedy}")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host = host if host.isascii() else host.encode("idna").decode("ascii")
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
    target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_TARGET_CHARACTERS)
    return Address(
        shown=parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl(),
        host=host,
        port=_PORTS[parts.scheme] if port is None else port,
        target=target,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        secure=parts.scheme == "https",
    )


def _without_password(url: str) -> str:
    """Of a url that can't be read: all that could be a password is left out."""
    scheme, separator, rest = url.rpartition("://")
    return scheme + separator + rest.rpartition("@")[2]
