"""ask, ask_all: all requests at once, on the thread that asks."""

from __future__ import annotations

import math
import select
import time
from collections.abc import Sequence

from collector.exchange.address import Address
from collector.exchange.answer import Reply
from collector.exchange.connection import Connection
from collector.exchange.errors import ExchangeError
from collector.exchange.request import Request


def ask(request: Request) -> Reply:
    """The answer. Raises ExchangeError."""
    [result] = ask_all([request])
    if isinstance(result, ExchangeError):
        raise result
    return result


def ask_all(requests: Sequence[Request]) -> list[Reply | ExchangeError]:
    """The answer to each request, or why there is none, in their order. It takes as long as the slowest, and no
    longer than its ``timeout_seconds``.
    """
    now = time.monotonic()
    connections: list[Connection] = []
    try:
        connections += (Connection(request, now) for request in requests)
        while open_ := [one for one in connections if one.result is None]:
            _turns(open_)
    finally:
        for one in connections:
            one.close()
    return [one.result for one in connections if one.result is not None]


def prepare(address: Address) -> None:
    """Load what the first request to ``address`` would load otherwise: the certificates, for https."""
    if address.secure:
        from collector.exchange import tls

        tls.context()


def _turns(connections: Sequence[Connection]) -> None:
    """Wait until one of them has something to do, and let each that has do it."""
    poll = select.poll()
    by_number = {}
    for one in connections:
        number = one.fileno()
        if number >= 0:
            poll.register(number, one.events)
            by_number[number] = one
    seconds = min(one.wakes_at for one in connections) - time.monotonic()
    for number, _ in poll.poll(max(math.ceil(seconds * 1000), 0)):
        by_number[number].turn()
    now = time.monotonic()
    for one in connections:
        if one.result is None and now >= one.wakes_at:
            one.wake(now)
