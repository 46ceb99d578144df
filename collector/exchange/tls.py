"""TLS for the connections to https: the only module that imports ssl, which takes 2 MiB, with certificates 20 ms.

Verified with the certificates of the system, or of the files that SSL_CERT_FILE and SSL_CERT_DIR name. They are read
once: what changes afterwards is seen by the next process.
"""

from __future__ import annotations

import functools
import select
import socket
import ssl

from collector.exchange.errors import BrokenOff, ExchangeError, NoConnection

_REMEDY = "add its authority's to the certificates of this host, or name a file of both in SSL_CERT_FILE"


@functools.cache
def context() -> ssl.SSLContext:
    made = ssl.create_default_context()
    # Python 3.11.2 (Debian 12) sets this option: a connection that was cut would look like the end of the answer.
    made.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return made


def wrap(plain: socket.socket, host: str) -> ssl.SSLSocket:
    """TLS over a connected socket; the handshake is not made yet."""
    return context().wrap_socket(
        plain,
        server_hostname=host,
        do_handshake_on_connect=False,
        # A body that ends with the connection is whole only if TLS says that it ended (RFC 9112, 9.8).
        suppress_ragged_eofs=False,
    )


def awaited(error: OSError) -> int:
    """The event of poll() that TLS waits for, 0 where ``error`` is more than that."""
    if isinstance(error, ssl.SSLWantReadError):
        return select.POLLIN
    return select.POLLOUT if isinstance(error, ssl.SSLWantWriteError) else 0


def handshake_error(error: OSError) -> ExchangeError:
    """What to say of a handshake that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return NoConnection(f"its certificate is not trusted: {error.verify_message.rstrip('.')}; {_REMEDY}")
    if isinstance(error, ssl.SSLError):
        return NoConnection(f"no TLS with it: {error.reason or error}")
    return BrokenOff(f"the TLS handshake with it broke off: {error.strerror or error}")
