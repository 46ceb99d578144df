"""Where the exporter listens: the configured address resolved and bound, and the errors when that fails."""

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
    family, kind, protocol, place = resolve(config)
    try:
        found = socket.socket(family, kind, protocol)
    except OSError as error:
        raise refused(config, error) from None
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind(place)
        found.listen()  # two sockets may be bound to one port until one of them listens
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            port = config.exporter.port
            raise AddressTaken(
                f"port {port} of {config.exporter.listen} is taken (9200 is also Elasticsearch's); stop the program "
                f"that has it, or set another: {config.where('exporter')} port = {port + 1 if port < 65535 else 9200}"
            ) from None
        raise refused(config, error) from None
    return found


def resolve(config: ExporterTables) -> tuple[int, int, int, Any]:
    """(family, type, protocol, place to bind) of [exporter] listen and port. Raises ConfigurationError."""
    address = config.exporter.listen
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address, config.exporter.port, type=socket.SOCK_STREAM)[0]
    except (OSError, ValueError) as error:  # ValueError: no name that could be asked for, such as "a..b"
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise ConfigurationError(
            f"{config.where('exporter')} listen is {address!r}: {reason}; give an address of this host, {_EXAMPLES}"
        ) from None
    return family, kind, protocol, place


def refused(config: ExporterTables, error: OSError) -> ConfigurationError:
    """What to say when the kernel refuses the address or the port for another reason than that it is taken."""
    where, address, port = config.where("exporter"), config.exporter.listen, config.exporter.port
    if error.errno == errno.EADDRNOTAVAIL:
        return ConfigurationError(
            f"{where} listen is {address!r}, which is no address of this host; give one that is, {_EXAMPLES}"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return ConfigurationError(
            f"{where} port is {port}, which this user may not have: {error.strerror}; give one from 1024 to 65535"
        )
    return ConfigurationError(
        f"{where} listen is {address!r}, port is {port}: {error.strerror}; "
        "choose an address of this host and a port this user may have"
    )


def url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
