"""Questions to servers that may be slow, hostile or gone: HTTP/1.1 over TCP, TLS or a Unix socket, and plain lines.

    requests = [http_request(address, limits, path) for path in paths]
    for result in ask_all(requests): ...        a Reply, or the ExchangeError that says why there is none
    ask(line_request(address, limits, "show stat\\n")).body     one of them; raises the ExchangeError

Theory of operation. The requests of an ``ask_all`` go out at the same time, each on a connection of its own that is
closed behind its answer: a few a tick cost nothing, and one kept open would be closed by the server at the moment of
its use, a failure that is none. One thread turns from one connection to the other, as poll() says which has something,
and does a bounded piece of work for each, so that none can hold up the others. What is bounded, and where:

    time      of all of it, from the look-up of the name to the last byte      Limits.timeout_seconds    connection.py
    body      its bytes                                                        Limits.max_reply_bytes    answer.py
    HTTP      heads, sizes of chunks, trailers; one head by itself             constants                 answer.py
    turn      what is read from one connection before the others' turn         a constant                connection.py
    threads   one for a name whose look-up is under way                        by design                 lookup.py

The configuration says whom to ask, not the server: no redirect is followed, no proxy of the environment asked, no
cookie kept, and nothing is decompressed. The protocol is httptools' to read; what is imported beside it, sockets and
poll, a process has already. Only https imports ssl, which alone takes 2 MiB; http.client would take 3 and httpx 9.
"""

from collector.exchange.address import Address, parse_address
from collector.exchange.answer import Reply
from collector.exchange.asking import ask, ask_all, prepare
from collector.exchange.errors import (
    BrokenOff,
    ExchangeError,
    Late,
    NoConnection,
    NotHttp,
    Refused,
    TooLong,
)
from collector.exchange.request import Limits, Request, http_request, line_request

__all__ = [
    "Address",
    "BrokenOff",
    "ExchangeError",
    "Late",
    "Limits",
    "NoConnection",
    "NotHttp",
    "Refused",
    "Reply",
    "Request",
    "TooLong",
    "ask",
    "ask_all",
    "http_request",
    "line_request",
    "parse_address",
    "prepare",
]
