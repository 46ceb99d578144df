"""Refuse requests whose header Host names another host (RFC 9110, 7.4: 421 Misdirected Request).

A page of a hostile site can ask a server of the reader's own machine: its name leads to 127.0.0.1 at the second look-up
(DNS rebinding), so that the browser takes the two for one site. The header still has the site's name. An address in
place of a name can't be rebound, so all addresses are accepted. Of names that begin with this host's, those in the
domains that it searches itself, and in domains that nobody can register: HOST.example.org may be anybody's.
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
_PRIVATE_DOMAINS: Final = ("home.arpa", "internal", "lan", "local", "localdomain")


class HostCheck:
    """ASGI middleware. ``names``: globs of further names that this host has; ``refused`` is called with each 421."""

    def __init__(self, app: ASGIApp, names: Iterable[str], refused: Callable[[int], None]) -> None:
        self._app = app
        self._globs = ("localhost", "*.localhost", *own_names(), *map(str.lower, names))
        self._refused = refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = Headers(scope=scope).get("host", "") if scope["type"] == "http" else ""
        if is_address(name := name_of(host)) or any(fnmatchcase(name, one) for one in self._globs) or not host:
            await self._app(scope, receive, send)
            return
        self._refused(421)
        sentence = f"Host: {shown(host)} is not a name of this host; add it to [exporter] allowed_hosts if it is\n"
        await PlainTextResponse(sentence, 421)(scope, receive, send)


def own_names(resolv_conf: Path = _RESOLV_CONF) -> list[str]:
    """The names of this host: its own, without its domain, and in private domains and those of resolv.conf(5)."""
    own = socket.gethostname().lower()
    short = own.partition(".")[0]
    try:
        lines = [line.split() for line in resolv_conf.read_text(errors="replace").lower().splitlines()]
    except OSError:
        lines = []
    searched = [domain for line in lines if line[:1] in (["search"], ["domain"]) for domain in line[1:]]
    return [own, short, *(f"{short}.{domain.strip('.')}" for domain in (*_PRIVATE_DOMAINS, *searched))]


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
