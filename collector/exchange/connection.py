"""Connection: one request on its way, in turns of bounded work between which the others have theirs.

    state      waits for                                        then
    look up    the thread of the look-up                        connect
    connect    the socket to be writable                        shake hands (https) or send
    connect    refused, or its share of the time is over        connect to the next place of the name, or NoConnection
    shake      whatever TLS says                                send
    send       the socket to be writable                        read, when all is sent
    read       the socket to be readable                        done, when the answer is whole
    any        the deadline                                     Late

A name may have an address that never answers before one that does (localhost is ::1 before it is 127.0.0.1): each gets
an equal share of the time that is left.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import time
from collections.abc import Callable

from collector.exchange.answer import Answer, HttpAnswer, LineAnswer, Reply
from collector.exchange.errors import BrokenOff, ExchangeError, Late, NoConnection
from collector.exchange.lookup import Lookup, Place, known_places, look_up
from collector.exchange.request import Request

# A turn's share: httptools takes 1 ms for 64 KiB at the worst, which are 10,000 chunks of a byte.
_READ_BYTES = 65_536
# A look-up can't wake poll(): it is looked after in steps of a share of the time that it has taken, from the first on.
_FIRST_LOOK_SECONDS = 0.001
_LOOK_SHARE = 0.1


class Connection:
    """``result`` is the Reply or the error, None until then. Times are of time.monotonic(), in seconds.

    ``wakes_at``: when it wants ``wake`` to be called, whatever its socket does. No method raises.
    """

    def __init__(self, request: Request, now: float) -> None:
        self.result: Reply | ExchangeError | None = None
        self.events = 0
        self.wakes_at = self._deadline = now + request.limits.timeout_seconds
        self._request = request
        self._answer: Answer = (HttpAnswer if request.http else LineAnswer)(request.limits)
        self._socket: socket.socket | None = None
        self._places: list[Place] = []
        self._lookup: Lookup | None = None
        self._unsent = memoryview(request.question)
        self._refusal = "its name has no address"  # of the place that was tried last
        self._step: Callable[[Connection], None] = Connection._begin  # not bound: that would be a cycle to collect
        self.turn()

    def fileno(self) -> int:
        """Of the socket that waits for ``events``; -1 where there is none."""
        return -1 if self._socket is None else self._socket.fileno()

    def turn(self) -> None:
        """Do what can be done now."""
        try:
            self._step(self)
        except ExchangeError as error:
            self._end(error)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others go on
            self._end(ExchangeError(f"{type(error).__name__}: {error}"))

    def wake(self, now: float) -> None:
        """The time ``wakes_at`` has come."""
        if now >= self._deadline:
            limits = self._request.limits
            self._end(
                Late(f"no whole answer within {limits.timeout_seconds:g} s{limits.named('request_timeout_seconds')}")
            )
        elif self._lookup is not None:
            self.turn()
        else:
            self._refusal = "no answer"
            self._step = Connection._connect
            self.turn()

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _end(self, result: Reply | ExchangeError) -> None:
        if isinstance(result, ExchangeError):
            result.__traceback__ = result.__context__ = None  # they hold this connection, which holds the result
        self.result = result
        self._answer.close()
        self.close()

    # ---- the states -------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        address = self._request.address
        places = known_places(address)
        if places is None:
            self._lookup = look_up(address.host)
            self._step = Connection._look
            self._look()
        else:
            self._places = places
            self._connect()

    def _look(self) -> None:
        assert self._lookup is not None
        places = self._lookup.places(self._request.address.port)
        if places is None:
            now = time.monotonic()
            taken = now - self._deadline + self._request.limits.timeout_seconds
            self.wakes_at = min(now + max(taken * _LOOK_SHARE, _FIRST_LOOK_SECONDS), self._deadline)
            return
        self._lookup = None
        self._places = places
        self._connect()

    def _connect(self) -> None:
        """Begin to connect to the next place, and to the one behind it where that fails at once."""
        while self._places:
            self.close()
            family, place = self._places.pop(0)
            try:
                self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
                self._socket.connect(place)
            except OSError as error:
                if error.errno == errno.EINPROGRESS:
                    now = time.monotonic()
                    self.wakes_at = now + (self._deadline - now) / (1 + len(self._places))
                    self.events = select.POLLOUT
                    self._step = Connection._connecting
                    return
                self._refusal = error.strerror or str(error)
            else:
                self._connected()
                return
        raise NoConnection(self._refusal)

    def _connecting(self) -> None:
        assert self._socket is not None
        number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            self._refusal = os.strerror(number)
            self._connect()
        else:
            self._connected()

    def _connected(self) -> None:
        self.wakes_at = self._deadline
        if self._request.address.secure:
            from collector.exchange import tls

            assert self._socket is not None
            self._socket = tls.wrap(self._socket, self._request.address.host)
            self._step = Connection._shake
        else:
            self._step = Connection._send
        self._step(self)

    def _shake(self) -> None:
        from collector.exchange import tls

        try:
            self._socket.do_handshake()  # type: ignore[union-attr]  # it is TLS's by now
        except OSError as error:
            if not self._waits(error):
                raise tls.handshake_error(error) from None
            return
        self._step = Connection._send
        self._send()

    def _send(self) -> None:
        assert self._socket is not None
        self.events = select.POLLOUT
        try:
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except OSError as error:
            self._waits_or_breaks(error)
            return
        if not self._unsent:
            self.events = select.POLLIN
            self._step = Connection._read

    def _read(self) -> None:
        assert self._socket is not None
        self.events = select.POLLIN
        try:
            # TLS gives one record, 16 KiB at most, and keeps none back that poll() would not tell of.
            data = self._socket.recv(_READ_BYTES)
        except OSError as error:
            self._waits_or_breaks(error)
            return
        reply = self._answer.feed(data) if data else self._answer.end()
        if reply is not None:
            self._end(reply)

    def _waits_or_breaks(self, error: OSError) -> None:
        if not self._waits(error):
            raise BrokenOff(f"its answer broke off: {error.strerror or error}") from None

    def _waits(self, error: OSError) -> bool:
        """Whether it is no error, but has to wait for ``events``."""
        if self._request.address.secure:
            from collector.exchange import tls

            self.events = tls.awaited(error) or self.events
            return bool(tls.awaited(error))
        return isinstance(error, BlockingIOError)
