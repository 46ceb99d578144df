"""For supervisord: start the programs at once, not a second after it.

    [rpcinterface:prompt]
    supervisor.rpcinterface_factory = collector.prompt:make

supervisord looks after its programs each time that something happens on one of its sockets, and once a second; so the
first look is a second after its start (supervisor/supervisord.py, runforever). Let something happen then: a connection
to its own socket, closed again. It makes the factories of RPC interfaces when its sockets listen
(http://supervisord.org/xmlrpc.html, "Adding new XML-RPC methods"); this one adds no method.
"""

from __future__ import annotations

import contextlib
import socket
from typing import Any


class Prompt:
    """An RPC interface without methods."""


def make(supervisord: Any, **config: Any) -> Prompt:
    """Whatever comes of it, supervisord goes on: at worst its programs start when they always did."""
    with contextlib.suppress(OSError, AttributeError, KeyError, TypeError):
        for server in supervisord.options.server_configs:
            address = server["file"] if server["family"] == socket.AF_UNIX else ("127.0.0.1", server["port"])
            with socket.socket(server["family"], socket.SOCK_STREAM) as one:
                one.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    one.connect(address)
    return Prompt()
