"""Resolve and bind the listeners of [exporter] listen; explain errors.

127.0.0.1   ::1   localhost        at [exporter] port
127.0.0.1:9100   [::]:9100         at a port of their own
unix:/run/fogmetrics.sock          a Unix socket
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from exporter.settings import ExporterTables
from shm.errors import ConfigurationError, FogmetricsError

_EXAMPLES: Final = 'such as "127.0.0.1", "[::]:9200" or "unix:/run/fogmetrics.sock"'
_MOST_PATH: Final = 107  # bytes of sun_path of unix(7), less the final NUL
_NOT_FOR_OTHERS: Final = 0o117  # umask: a Unix socket has mode 0660


class AddressTaken(FogmetricsError):
    """Another program listens there."""


@dataclass(frozen=True, slots=True)
class Listener:
    """One address of [exporter] listen: a host and a port, or the path of a Unix socket."""

    text: str  # as it is configured
    host: str = ""
    port: int = 0
    path: str = ""


def listeners(config: ExporterTables) -> tuple[Listener, ...]:
    """The listeners of the configuration. Raises ConfigurationError."""
    listen = config.exporter.listen
    found = tuple(_parse(one, config) for one in ((listen,) if isinstance(listen, str) else listen))
    if not found:
        raise ConfigurationError(f"{config.where('exporter')} listen is []; give one address or more, {_EXAMPLES}")
    return found


def _parse(text: str, config: ExporterTables) -> Listener:
    wrong = f"{config.where('exporter')} listen is {text!r}"
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path.startswith("/") or "\0" in path or len(os.fsencode(path)) > _MOST_PATH:
            raise ConfigurationError(f"{wrong}; give an absolute path of at most {_MOST_PATH} bytes after unix:")
        return Listener(text, path=path)
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        colon, port = rest[:1] if bracket else text, rest[1:]
    elif text.count(":") == 1:
        host, colon, port = text.partition(":")
    else:
        host, colon, port = text, "", ""
    if not colon and not port:
        port = str(config.exporter.port)
    elif colon != ":" or not (port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) <= 65535):
        raise ConfigurationError(f"{wrong}, not an address with a port from 0 to 65535; give one, {_EXAMPLES}")
    if not host:
        raise ConfigurationError(f'{wrong}, which has no address; for all of this host give "[::]:{port}"')
    return Listener(text, host, int(port))


def check(config: ExporterTables) -> None:
    """Raises ConfigurationError for an invalid address, or a host name that can't be resolved."""
    for one in listeners(config):
        if not one.path:
            resolve(config, one)


@contextlib.contextmanager
def listening(config: ExporterTables) -> Iterator[list[socket.socket]]:
    """Sockets that listen at the configured addresses. Raises AddressTaken or ConfigurationError.

    At the end they are closed, and the files of Unix sockets removed.
    """
    ours = listeners(config)
    places = [None if one.path else resolve(config, one) for one in ours]
    # "[::]" alone takes connections of IPv4, too.
    v6only = any(place is not None and place[0] == socket.AF_INET for place in places)
    with contextlib.ExitStack() as stack:
        found: list[socket.socket] = []
        for number, (one, place) in enumerate(zip(ours, places, strict=True)):
            try:
                if place is None:
                    found.append(stack.enter_context(_unix_socket(config, one)))
                else:
                    found.append(stack.enter_context(_internet_socket(place, v6only)))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise refused(config, one, error) from None
                raise _taken(config, one, ours[:number]) from None
        yield found


def _internet_socket(place: tuple[int, int, int, Any], v6only: bool) -> socket.socket:
    family, kind, protocol, local = place
    found = socket.socket(family, kind, protocol)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and v6only:
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        found.bind(local)
        found.listen()  # two sockets may be bound to one port until one of them listens
    except OSError:
        found.close()
        raise
    return found


@contextlib.contextmanager
def _unix_socket(config: ExporterTables, one: Listener) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as found:
        _remove_stale(config, one)
        mask = os.umask(_NOT_FOR_OTHERS)
        try:
            found.bind(one.path)
        finally:
            os.umask(mask)
        made = os.lstat(one.path)
        found.listen()
        try:
            yield found
        finally:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.lstat(one.path), made):  # and not another exporter's by now
                    os.unlink(one.path)


def _remove_stale(config: ExporterTables, one: Listener) -> None:
    """Remove the file of a Unix socket at which nobody listens. Raises OSError or ConfigurationError."""
    try:
        mode = os.lstat(one.path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(
            f"{config.where('exporter')} listen is {one.text!r}, but that file is not a socket; remove it, "
            "or give another path"
        )
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(one.path) != errno.ECONNREFUSED:
            raise OSError(errno.EADDRINUSE, "")
    os.unlink(one.path)


def resolve(config: ExporterTables, one: Listener) -> tuple[int, int, int, Any]:
    """(family, type, protocol, local address) of a listener with a port. Raises ConfigurationError."""
    try:
        family, kind, protocol, _, local = socket.getaddrinfo(one.host, one.port, type=socket.SOCK_STREAM)[0]
    except (OSError, ValueError) as error:  # ValueError: an invalid host name, such as "a..b"
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise ConfigurationError(
            f"{config.where('exporter')} listen is {one.text!r}: {reason}; give an address of this host, {_EXAMPLES}"
        ) from None
    return family, kind, protocol, local


def _taken(config: ExporterTables, one: Listener, before: tuple[Listener, ...]) -> FogmetricsError:
    """The error for an address at which somebody listens: another program, or a listener ``before`` this one."""
    where = config.where("exporter")
    for other in before:
        if (other.port, other.path) == (one.port, one.path):
            return ConfigurationError(f"{where} listen has {other.text!r} and {one.text!r}, which overlap; remove one")
    if one.path:
        return AddressTaken(f"a program listens on {one.path} already; stop it, or give another path: {where} listen")
    another = one.port + 1 if one.port < 65535 else 9200
    own = one.text.strip("[]") != one.host
    key = f'listen = "{one.text.removesuffix(str(one.port))}{another}"' if own else f"port = {another}"
    return AddressTaken(
        f"port {one.port} of {one.host} is taken (9200 is also Elasticsearch's); stop the program that uses it, or set "
        f"another: {where} {key}"
    )


def refused(config: ExporterTables, one: Listener, error: OSError) -> ConfigurationError:
    """The error when the kernel refuses the address or the port, other than for one that is taken."""
    wrong = f"{config.where('exporter')} listen is {one.text!r}"
    if one.path:
        return ConfigurationError(
            f"{wrong}: {error.strerror}; give a path in a directory that the exporter's user may write to"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigurationError(f"{wrong}, which is not an address of this host; give one of this host, {_EXAMPLES}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigurationError(
            f"{wrong}, port is {one.port}, which this user may not use: {error.strerror}; give one from 1024 to 65535"
        )
    return ConfigurationError(
        f"{wrong}, port is {one.port}: {error.strerror}; choose an address of this host and a port this user may use"
    )


def url(host: str, port: int, secure: bool = False) -> str:
    return f"http{'s' * secure}://{f'[{host}]' if ':' in host else host}:{port}"
