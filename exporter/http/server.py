"""The HTTP server: uvicorn with h11, limits on each connection, and shutdown.

uvicorn alone lets a client hold a connection for ever with half a request or an unread answer, and its
``limit_concurrency`` counts silent connections. :class:`Guard` bounds the time and memory of a connection. A connection
is always in one of four states, of which three have a time limit, a key of [exporter]:

    request_seconds      waits for the rest of a request; the first request's time counts from the connection on
    (none)               the application makes the answer
    answer_seconds       waits for the client to read: the kernel has not taken all of the answer
    keep_alive_seconds   waits for the next request

Before that, a connection to a TLS port has ``request_seconds`` for its handshake, as a :class:`Handshake`.

In the first and the last state, and during its handshake, a connection is resting: it may be closed when more than
``max_connections`` are open. In the other two it is busy and is kept. A request that arrives while ``max_connections``
are busy is answered 503.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import signal
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any, Final

import h11
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from exporter.http.negotiation import TIMEOUT_HEADER
from exporter.http.tls import Tls
from exporter.settings import ExporterConfig
from fogmetrics.parent import Parent

log = logging.getLogger(__name__)

LOOK_SECONDS: Final = 5.0  # how often to check that supervisord is alive on kernels without pidfd
_FINISH_SECONDS: Final = 2  # grace period for answers in progress when the server stops
_LOG_SECONDS: Final = 60.0  # at most one line a minute about closed connections of one kind

# The listening queue: how many connections the kernel keeps while a page is made.
BACKLOG: Final = 128
# File descriptors other than connections: two a ring, the log, the event loop's own, briefly opened files.
OTHER_FILES: Final = 128
# Added if the hard limit allows, as it usually does: two for each process of an application.
_TABLE_FILES: Final = 8192

# The request headers that answers depend on. The others are dropped at once: 64 KiB of short headers would take 10 MiB
# of Python objects as long as the connection is open.
_KEPT_HEADERS: Final = (b"accept", b"accept-encoding", b"authorization", b"host", TIMEOUT_HEADER.encode())


class State(ServerState):
    """State and limits shared by all connections of a server."""

    def __init__(
        self, limits: ExporterConfig, refused: Callable[[int], None], tls: Callable[[], Tls] | None = None
    ) -> None:
        """``refused`` is called with the status of each answer that the server gives without the application; ``tls``
        returns the TLS of the next handshake.
        """
        super().__init__()
        self.limits = limits
        self.refused = refused
        self.tls = tls
        self.resting: dict[Guard | Handshake, None] = {}  # in the order in which they began to rest
        self._logged: dict[str, float] = {}

    @property
    def busy(self) -> int:
        return len(self.connections) - len(self.resting)

    def make_room(self) -> None:
        """Close the connection that has been resting longest, if too many are open.

        Half of ``max_connections`` may always rest, so that clients that connect together while many connections are
        busy are not closed before their requests are read.
        """
        most = self.limits.max_connections
        if len(self.connections) <= most or len(self.resting) <= max(most // 2, 1):
            return
        oldest = next(iter(self.resting))
        del self.resting[oldest]
        self.connections.discard(oldest)
        oldest.transport.abort()
        if self.may_log("connections"):
            log.warning("too many connections, idle ones are closed", extra={"max_connections": most})

    def may_log(self, kind: str) -> bool:
        """Whether to log a warning that any client can cause: true at most once a minute."""
        due = time.monotonic() - self._logged.get(kind, -_LOG_SECONDS) >= _LOG_SECONDS
        if due:
            self._logged[kind] = time.monotonic()
        return due

    async def all_busy(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application that answers 503, for requests that arrive while ``max_connections`` are busy."""
        self.refused(503)
        sentence = f"all {self.limits.max_connections} connections are busy with answers; try again in 1 s\n"
        await PlainTextResponse(sentence, 503, {"retry-after": "1", "connection": "close"})(scope, receive, send)


class Guard(H11Protocol):
    """One connection, limited in time and bytes."""

    def __init__(
        self, config: uvicorn.Config, server_state: State, app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # fmt: skip
        super().__init__(config, server_state, app_state, _loop)
        self.state = server_state
        self.limits = server_state.limits
        self._received = 0  # bytes since the last complete request
        self._clock: str | None = None  # the key of [exporter] that limits the present state; see _awaited
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        # Writing is paused whenever the kernel has not taken all of an answer; a TLS transport with a limit of 0 would
        # pause for nothing.
        transport.set_write_buffer_limits(*((1, 0) if self.scheme == "https" else (0,)))
        self._watch()
        self.state.make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.state.resting.pop(self, None)
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.MUST_CLOSE:
            return  # nothing is read after the last request
        self._received += len(data)
        if self._received > self.limits.max_request_bytes:
            self.send_400_response(f"The request is larger than {self.limits.max_request_bytes} bytes.")
            return
        self.state.default_headers = [(b"date", formatdate(usegmt=True).encode())]
        if self in self.state.resting:
            full = self.state.busy >= self.limits.max_connections
            self.app = self.state.all_busy if full else self.config.loaded_app
        super().data_received(data)
        self._progressed()

    def shutdown(self) -> None:
        if self in self.state.resting:
            self.transport.abort()  # TLS would wait for the client to agree
        else:
            super().shutdown()

    def on_response_complete(self) -> None:
        if self.flow.write_paused:
            return  # the next request waits until the client has read this answer: one page a connection in memory
        super().on_response_complete()
        self._progressed()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.cycle is not None and self.cycle.response_complete:
            self.on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Answer 400, unless another answer has begun, and close the connection."""
        self.state.refused(400)
        if self.cycle is not None:
            self.cycle.disconnected = True  # discards a later answer of the application to this request
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(f"{msg}\n")
        else:
            self.transport.abort()

    def _progressed(self) -> None:
        if self.headers:
            self.headers[:] = [
                (name, b",".join([value for key, value in self.headers if key == name])) for name in _KEPT_HEADERS
            ]
        if self.conn.their_state in (h11.IDLE, h11.DONE):
            self._received = len(self.conn.trailing_data[0])  # a whole request counts no more
        self._watch()

    def _watch(self) -> None:
        """Start the timer of the present state unless it runs already, and record whether the connection is resting."""
        clock = self._awaited()
        if clock == self._clock:
            return
        self._clock = clock
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(getattr(self.limits, clock), self.transport.abort) if clock else None
        self.state.resting.pop(self, None)
        if clock in ("request_seconds", "keep_alive_seconds"):
            self.state.resting[self] = None

    def _awaited(self) -> str:
        """The key of [exporter] that limits the present state; empty while the application makes an answer."""
        if self.flow.write_paused:
            return "answer_seconds"
        if self.cycle is not None and not self.cycle.response_complete:
            return ""
        return "request_seconds" if self._received or self.cycle is None else "keep_alive_seconds"


class Handshake(asyncio.Protocol):
    """One connection to a TLS port until its handshake is complete; a :class:`Guard` takes over.

    uvloop makes a protocol known only after the handshake: until then nothing would count or close the connection.
    """

    transport: asyncio.Transport

    def __init__(
        self, config: uvicorn.Config, server_state: State, app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # fmt: skip
        self.state = server_state
        self._guard = Guard(config, server_state, app_state, _loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        assert self.state.tls is not None
        self.transport = transport
        self._client = transport.get_extra_info("peername")  # a closed transport has none, or raises
        transport.set_write_buffer_limits(0)  # as Guard's, below TLS
        self.state.connections.add(self)  # type: ignore[arg-type]  # which has shutdown(), as uvicorn's
        self.state.resting[self] = None
        self.state.make_room()
        if transport.is_closing():
            self._end()
            return
        self._tls, limits = self.state.tls(), self.state.limits
        self._starting = asyncio.get_running_loop().start_tls(
            transport, self, self._tls.context, server_side=True, ssl_handshake_timeout=limits.request_seconds,
            ssl_shutdown_timeout=limits.answer_seconds,
        )  # fmt: skip
        # Run at once until it waits for the client, not in a task: uvloop reads the client's first bytes before that
        # would begin, and they would be lost.
        self._starting.send(None).add_done_callback(self._complete)

    def shutdown(self) -> None:
        self.transport.abort()

    def _complete(self, _: asyncio.Future[None]) -> None:
        self._end()
        try:
            self._starting.send(None)
        except StopIteration as done:
            secure, error = done.value, ""
        except OSError as failure:  # ssl.SSLError is one
            secure, error = None, str(failure)
        if secure is not None and not secure.is_closing():  # as uvloop's is if the connection was aborted meanwhile
            if self._tls.lets_in(secure.get_extra_info("peercert")):
                secure.set_protocol(self._guard)
                self._guard.connection_made(secure)
                return
            error = "client_allowed_sans has no name of the client's certificate"
        self.transport.abort()
        if self.state.may_log("handshakes"):
            log.warning(
                "TLS handshake failed",
                extra={
                    "client": self._client[0] if self._client else "a Unix socket",
                    "error": error or "the connection was closed",
                },
            )

    def _end(self) -> None:
        self.state.resting.pop(self, None)
        self.state.connections.discard(self)


class Server(uvicorn.Server):
    """Serves an application until SIGTERM, SIGINT, :meth:`stop` or the end of ``parent``, without polling."""

    def __init__(
        self,
        app: ASGIApp,
        limits: ExporterConfig,
        parent: Parent,
        refused: Callable[[int], None] = lambda status: None,
        tls: Callable[[], Tls] | None = None,
    ) -> None:
        """``tls``: returns the TLS of the next handshake; None: no TLS."""
        config = uvicorn.Config(
            app, http=Handshake if tls else Guard, ws="none", loop="uvloop", lifespan="on", log_config=None,
            log_level="error", access_log=False, proxy_headers=False, server_header=False, backlog=BACKLOG,
            h11_max_incomplete_event_size=limits.max_request_bytes,
            timeout_keep_alive=86_400,  # never reached: Guard's limit is shorter
            timeout_graceful_shutdown=_FINISH_SECONDS,
        )  # fmt: skip
        super().__init__(config)
        self.server_state = self._state = State(limits, refused, tls)
        self.on_hangup: Callable[[], object] | None = None  # at SIGHUP, which is blocked until then
        self._parent = parent
        self._ending = asyncio.Event()

    def stop(self) -> None:
        self.should_exit = True
        self._ending.set()

    def limit(self, limits: ExporterConfig) -> None:
        """Apply other limits to connections that are opened from now on."""
        self._state.limits = limits
        self.config.h11_max_incomplete_event_size = limits.max_request_bytes

    def replace_app(self, app: ASGIApp, tls: Callable[[], Tls] | None) -> None:
        """Serve another application from the next request on. TLS stays on or off."""
        self.config.loaded_app = app
        self._state.tls = tls

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals in the event loop; uvicorn's own handlers need a loop that wakes up ten times a second."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if self.on_hangup is not None:
            loop.add_signal_handler(signal.SIGHUP, self.on_hangup)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])
        yield

    async def main_loop(self) -> None:
        loop = asyncio.get_running_loop()
        self._parent.ready()  # startup() has begun to accept connections
        if self._parent.fd >= 0:
            loop.add_reader(self._parent.fd, self._parent_ended)
        look_seconds = LOOK_SECONDS if self._parent.pid and self._parent.fd < 0 else None
        # Checked before the first wait too: no event announces a parent that has ended already.
        while not self.should_exit and not self._parent.gone:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(look_seconds):
                    await self._ending.wait()
        if not self.should_exit:
            log.warning("supervisord is gone")

    def _parent_ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._parent.fd)  # a pidfd stays readable
        self._parent.ended()
        self._ending.set()


def fitting(max_connections: int) -> int:
    """``max_connections``, or fewer if the limit on open files requires it. Raises the soft limit as far as needed.

    Each connection needs two descriptors, because a closed one may still be open when the next is accepted; the
    listening queue needs more. At the limit libuv accepts a connection and closes it at once.
    """
    others = BACKLOG + OTHER_FILES
    needed = 2 * max_connections + others
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = needed + _TABLE_FILES if hard == resource.RLIM_INFINITY else min(needed + _TABLE_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    fit = min(max_connections, max((most - others) // 2, 1))
    if fit < max_connections:
        log.warning(
            "fewer connections than configured; raise the limit on open files",
            extra={"max_connections": max_connections, "now": fit, "files": most, "needed": needed},
        )
    return fit
