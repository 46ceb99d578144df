"""Refuse requests whose header Host names another host (RFC 9110, 7.4: 421 Misdirected Request).

A page of a hostile site can ask a server of the reader's own machine: its name leads to 127.0.0.1 at the second look-up
(DNS rebinding), so that the browser takes the two for one site. The header still has the site's name. An address in
place of a name can't be rebound, so all addresses are accepted.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from shm.safe_repr import shown


class HostCheck:
    """ASGI middleware. ``names``: globs of this host's further names; ``refused`` is called with each 421."""

    def __init__(self, app: ASGIApp, names: Callable[[], Iterable[str]], refused: Callable[[int], None]) -> None:
        own = socket.gethostname().lower()
        self._app = app
        self._own = ("localhost", "*.localhost", own, f"{own}.*", own.partition(".")[0])
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


def name_of(host: str) -> str:
    """The name or address in a header Host, in lower case, without the port and the dot at its end."""
    name, colon, port = host.rpartition(":")
    return (name if colon and port.isdecimal() else host).lower().removesuffix(".").strip("[]")


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True
