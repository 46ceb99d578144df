"""Where an address is: the places that connect() takes.

A path, a number and localhost are known at once. Any other name is getaddrinfo's to look up, which takes its time and
no timeout; so it runs in a daemon thread, and who waits for it stops when its own time is over. A look-up that is under
way is joined by whoever asks for the same name: one that hangs costs one thread, however often it is asked for.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

from collector.exchange.address import Address
from collector.exchange.errors import NoConnection

# A family of addresses, and what connect() takes of it.
Place = tuple[int, Any]

_MAX_LABEL = 63  # RFC 1035, 2.3.4
_guard = threading.Lock()
_under_way: dict[str, Lookup] = {}


def known_places(address: Address) -> list[Place] | None:
    """The places of an address that needs no look-up, in the order in which to try them; else None."""
    if address.unix_path:
        return [(socket.AF_UNIX, address.unix_path)]
    host, port = address.host, address.port
    # RFC 6761, 6.3: it is the loopback address, whatever anybody says. So the default url needs no thread each tick.
    if host == "localhost" or host.endswith(".localhost"):
        return [(socket.AF_INET6, ("::1", port, 0, 0)), (socket.AF_INET, ("127.0.0.1", port))]
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):
        return None
    return [(family, (host, port))]


def look_up(host: str) -> Lookup:
    """Begin to look up ``host``, or join who does already. Raises NoConnection for what can be no name."""
    with _guard:
        lookup = _under_way.get(host)
        if lookup is None:
            lookup = Lookup(host)
            threading.Thread(target=lookup.run, name=f"look-up-{host}", daemon=True).start()
            _under_way[host] = lookup
        return lookup


class Lookup:
    """A look-up that is under way, and then its outcome."""

    def __init__(self, host: str) -> None:
        if not host.isascii() or not all(0 < len(label) <= _MAX_LABEL for label in host.removesuffix(".").split(".")):
            raise NoConnection(f"{host!r} can't be the name of a host")
        self._host = host
        self._done = threading.Event()
        self._found: list[Place] = []
        self._error = ""

    def places(self, port: int) -> list[Place] | None:
        """With that port, in the order in which to try them; None while it is under way. Raises NoConnection."""
        if not self._done.is_set():
            return None
        if self._error:
            raise NoConnection(f"the name {self._host!r} can't be looked up: {self._error}")
        return [(family, (place[0], port, *place[2:])) for family, place in self._found]

    def run(self) -> None:
        """In a thread of its own."""
        try:
            # As bytes: of a str Python makes IDNA, for which it imports 0.2 MiB.
            found = socket.getaddrinfo(self._host.encode("ascii"), None, type=socket.SOCK_STREAM)
            self._found = [(family, place) for family, _, _, _, place in found]
            self._error = "" if found else "it has no address"
        except Exception as error:  # noqa: BLE001 - whatever it is, it is why there is no address
            self._error = (isinstance(error, OSError) and error.strerror) or f"{type(error).__name__}: {error}"
        finally:
            with _guard:
                del _under_way[self._host]
            self._done.set()
