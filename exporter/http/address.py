"""Resolve and bind the configured address; explain errors."""

from __future__ import annotations

import errno
import socket
from typing import Any

from exporter.settings import ExporterTables
from shm.errors import ConfigurationError, FogmetricsError

_EXAMPLES = 'such as "127.0.0.1" or "0.0.0.0"'


class AddressTaken(FogmetricsError):
    """Another program listens on the port."""


def listen(config: ExporterTables) -> socket.socket:
    """A socket bound to the configured address. Raises AddressTaken or ConfigurationError."""
    family, kind, protocol, local = resolve(config)
    try:
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise refused(config, error) from None
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(local)
        found.listen()  # two sockets may be bound to one port until one of them listens
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            port = config.exporter.port
            raise AddressTaken(
                f"port {port} of {config.exporter.listen} is taken (9200 is also Elasticsearch's); stop the program "
                f"that uses it, or set another: {config.where('exporter')} port = {port + 1 if port < 65535 else 9200}"
            ) from None
        raise refused(config, error) from None
    return found


def resolve(config: ExporterTables) -> tuple[int, int, int, Any]:
    """(family, type, protocol, local address) of [exporter] listen and port. Raises ConfigurationError."""
    address = config.exporter.listen
    try:
        family, kind, protocol, _, local = socket.getaddrinfo(address, config.exporter.port, type=socket.SOCK_STREAM)[0]
    except (OSError, ValueError) as error:  # ValueError: not a valid host name, such as "a..b"
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise ConfigurationError(
            f"{config.where('exporter')} listen is {address!r}: {reason}; give an address of this host, {_EXAMPLES}"
        ) from None
    return family, kind, protocol, local


def refused(config: ExporterTables, error: OSError) -> ConfigurationError:
    """The error when the kernel refuses the address or the port, other than for a port that is taken."""
    where, address, port = config.where("exporter"), config.exporter.listen, config.exporter.port
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigurationError(
            f"{where} listen is {address!r}, which is not an address of this host; give one of this host, {_EXAMPLES}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigurationError(
            f"{where} port is {port}, which this user may not use: {error.strerror}; give one from 1024 to 65535"
        )
    return ConfigurationError(
        f"{where} listen is {address!r}, port is {port}: {error.strerror}; "
        "choose an address of this host and a port this user may use"
    )


def url(host: str, port: int, secure: bool = False) -> str:
    return f"http{'s' * secure}://{f'[{host}]' if ':' in host else host}:{port}"
