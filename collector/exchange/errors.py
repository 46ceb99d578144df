"""Why there is no answer that can be used.

    ExchangeError           any of them
    ├── NoConnection        the name has no address, nobody listens there, or TLS does not trust who does
    ├── Late                it was not whole in its time
    ├── TooLong             more than is read of an answer
    ├── BrokenOff           the server hung up before the end
    ├── NotHttp             what it says is no HTTP
    └── Refused             its head says that it is none that was asked for: another status than 200, or an encoding

Messages are the reason alone, in words of the server ("it answered …"): who asks knows the address and what to do.
"""

from __future__ import annotations

from shm.errors import FogmetricsError


class ExchangeError(FogmetricsError):
    """There is no whole answer; the message is the reason, without the address."""


class NoConnection(ExchangeError):
    """Nothing was asked: the name has no address, nobody listens, or the certificate is not trusted."""


class Late(ExchangeError):
    """The answer was not whole in its time."""


class TooLong(ExchangeError):
    """More than ``most_bytes`` came: of the body, or ``of_http``, of all that was received."""

    def __init__(self, message: str, most_bytes: int, *, of_http: bool) -> None:
        super().__init__(message)
        self.most_bytes = most_bytes
        self.of_http = of_http


class BrokenOff(ExchangeError):
    """The connection ended before the answer did."""


class NotHttp(ExchangeError):
    """The answer breaks the protocol."""


class Refused(ExchangeError):
    """The answer's head is not one whose body is read. ``location`` is where a redirect leads to, if it says so."""

    def __init__(self, message: str, status: int, location: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.location = location
