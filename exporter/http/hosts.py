"""Refuse requests whose header Host names another host (RFC 9110, 7.4: 421 Misdirected Request).

A page of a hostile site can ask a server of the reader's own machine: its name leads to 127.0.0.1 at the second look-up
(DNS rebinding), so that the browser takes the two for one site. The header still has the site's name. An address in
place of a name can't be rebound, so all addresses are accepted. This host's own name is accepted in domains that nobody
can register, and in those that it looks names up in; in others, it may be the hostile site's.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from shm.safe_repr import shown

_RESOLV_CONF: Final = Path("/etc/resolv.conf")
# Of home and company networks: https://www.rfc-editor.org/rfc/rfc6762#appendix-G, RFC 8375 and ICANN's .internal.
_PRIVATE_DOMAINS: Final = (
    "local", "lan", "home", "home.arpa", "internal", "intranet", "private", "corp", "localdomain",
)  # fmt: skip


class HostCheck:
    """ASGI middleware. ``names``: globs of this host's further names; ``refused`` is called with each 421."""

    def __init__(self, app: ASGIApp, names: Callable[[], Iterable[str]], refused: Callable[[int], None]) -> None:
        self._app = app
        self._own = ("localhost", "*.localhost", *own_names(socket.gethostname(), search_domains()))
        self._names = names
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host", "") if scope["type"] == "http" else ""
        if is_address(name := name_of(host)) or self._is_ours(name) or not host:
            await self._app(scope, receive, send)
            return
        self._refused(421)
        sentence = f"Host: {shown(host)} is not a name of this host; add it to [exporter] allowed_hosts if it is\n"
        await PlainTextResponse(sentence, 421)(scope, receive, send)

    def _is_ours(self, name: str) -> bool:
        return any(fnmatchcase(name, one) for one in (*self._own, *map(str.lower, self._names())))


def own_names(hostname: str, domains: Iterable[str]) -> list[str]:
    """The names by which others may know a host of that name that looks names up in those domains."""
    name = hostname.lower()
    short = name.partition(".")[0]
    return [name, short, *(f"{short}.{domain}" for domain in (*_PRIVATE_DOMAINS, *domains))]


def search_domains(file: Path = _RESOLV_CONF) -> list[str]:
    """The domains in which this host looks up names, by resolv.conf(5)."""
    try:
        lines = [line.lower().split() for line in file.read_text("utf-8", "replace").splitlines()]
    except OSError:
        return []
    return [one.strip(".") for words in lines if words and words[0] in ("search", "domain") for one in words[1:]]


def name_of(host: str) -> str:
    """The name or address in a header Host, in lower case, without the port and the dot at its end."""
    name, colon, port = host.rpartition(":")
    return (name if colon and (port.isdecimal() or not port) else host).lower().removesuffix(".").strip("[]")


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
