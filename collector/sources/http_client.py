"""HttpClient: requests to one HTTP server that may be slow, broken or hostile, with httpx.

    client = HttpClient(address, limits, {"Accept": "application/json"})
    body = client.request("http://host/path")          raises NoReply

    time      one deadline over the whole request, from the name look-up to the last byte      Limits.timeout_seconds
    body      counted while it is received                                                     Limits.max_reply_bytes
    head      100 KiB                                                                          httpcore's limit

httpx's timeouts bound each read, so they never expire for a server that sends a byte now and then. A name look-up or
connection attempt can't be interrupted. So each client runs its requests on its own thread: the caller waits until the
deadline, then shuts the socket down, which ends the read. While a look-up hangs, the next request of the same client
fails at once: a client has one thread at most.

A client keeps its connection open between requests. If the server closed it in the meantime, the request is sent again
on a new one, so send only requests that may be repeated.

httpx's transport is used without httpx.Client on top: it follows no redirects, uses no proxy, ~/.netrc or cookies, and
decodes no content.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from collector.loop.timeouts import CallThread, Hung
from collector.sources.target import Address, Limits, NoReply
from shm.errors import ConfigurationError
from shm.safe_repr import shortened

_REMEDY = "add its authority's to the certificates of this host, or name a file of both in SSL_CERT_FILE"
_NO_HEADERS: Mapping[str, str] = {}


class HttpClient:
    """Sends requests to the server at ``address``, one at a time. Raises ConfigurationError for a malformed host."""

    def __init__(self, address: Address, limits: Limits, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        self._limits = limits
        self._headers = {"User-Agent": "fogmetrics", "Accept-Encoding": "identity", **headers}
        if address.user or address.password:
            login = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {login}"
        try:
            secure = httpx.URL(address.url).scheme == "https"
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"the address {address.shown!r} can't be used: {error}") from None
        self._transport = httpx.HTTPTransport(
            verify=_certificates() if secure else False,  # False: load no certificates, as plain HTTP needs none
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None),
            uds=address.unix_path or None,
        )
        self._thread = CallThread("the request")
        self._socket: socket.socket | None = None  # of the last connection
        self._connected = False  # a connection was made in this attempt
        self._deadline = 0.0

    def request(
        self,
        url: str,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        body: bytes | None = None,
        timeout_seconds: float | None = None,
    ) -> bytes:
        """The body of the reply to GET, or to POST of ``body``. Raises NoReply."""
        return self.begin(url, headers=headers, body=body, timeout_seconds=timeout_seconds)()

    def begin(
        self,
        url: str,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        body: bytes | None = None,
        timeout_seconds: float | None = None,
    ) -> Callable[[], bytes]:
        """Send the request and return at once. Call the returned function to wait for the reply; it raises NoReply."""
        seconds = self._limits.timeout_seconds if timeout_seconds is None else timeout_seconds
        deadline = time.monotonic() + seconds
        # Each attempt to connect has half of the time: the first address of a name may never answer, such as an IPv6
        # address behind a firewall.
        timeouts = httpx.Timeout(seconds, connect=seconds / 2).as_dict()
        request = httpx.Request(
            "GET" if body is None else "POST",
            url,
            headers={**self._headers, **headers},
            content=body,
            extensions={"timeout": timeouts, "trace": self._trace},
        )
        # The reply is taken out of this list, for the thread keeps its last call with all that it has.
        replies: list[bytes | NoReply] = []
        call = self._thread.start(lambda: replies.append(self._exchange(request, deadline)), seconds)

        def wait() -> bytes:
            if not call.returned_within(deadline - time.monotonic()):
                self._shut_down()
                raise self._limits.late()
            try:
                call.result()
            except Hung:
                raise NoReply("the previous request has not ended: its name look-up or connection hangs") from None
            reply = replies.pop()
            if isinstance(reply, NoReply):
                raise NoReply(str(reply), reply.status)
            return reply

        return wait

    def close(self) -> None:
        self._thread.close()
        self._transport.close()

    # ---- on the client's thread -------------------------------------------------------------------------------

    def _exchange(self, request: httpx.Request, deadline: float) -> bytes | NoReply:
        """Errors are returned, not raised: the call would keep their tracebacks, and with them connection and body."""
        self._deadline = deadline
        try:
            response = self._send(request)
            try:
                _check_head(response)
                return self._body(response)
            finally:
                response.close()  # closes the connection, too, if the reply was not read to its end
        except NoReply as error:
            return error.with_traceback(None)
        except httpx.TimeoutException:
            return self._limits.late()
        except httpx.HTTPError as error:
            return NoReply(_reason(error))

    def _send(self, request: httpx.Request) -> httpx.Response:
        self._connected = False
        try:
            return self._transport.handle_request(request)
        except (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError):
            if self._connected or time.monotonic() >= self._deadline:
                raise
            return self._transport.handle_request(request)

    def _body(self, response: httpx.Response) -> bytes:
        pieces, size = [], 0
        for piece in response.iter_raw():
            pieces.append(piece)
            size += len(piece)
            if size > self._limits.max_reply_bytes:
                raise self._limits.too_long()
        return b"".join(pieces)

    def _trace(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by httpx at each step of a request; for a new connection, ``info`` has the stream."""
        if event in ("connection.connect_tcp.complete", "connection.connect_unix_socket.complete",
                     "connection.start_tls.complete"):  # fmt: skip
            stream = info["return_value"]
            self._connected = True
            self._socket = stream.get_extra_info("socket")
            if time.monotonic() >= self._deadline:  # the caller no longer waits
                stream.close()
                raise self._limits.late()

    # ---- on the caller's thread -------------------------------------------------------------------------------

    def _shut_down(self) -> None:
        """End the current read. A connection attempt ends by its own timeout, then by the deadline."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed or disconnected
                self._socket.shutdown(socket.SHUT_RDWR)


def _check_head(response: httpx.Response) -> None:
    """Raises NoReply for a status other than 200, and for an encoded body."""
    status = response.status_code
    if status != 200:
        to = shortened(response.headers.get("location", ""))
        redirect = f", a redirect to {to!r}, which is not followed" if to and 300 <= status < 400 else ""
        raise NoReply(f"it answered HTTP {status} {shortened(response.reason_phrase)}".rstrip() + redirect, status)
    encoding = response.headers.get("content-encoding", "identity")
    if encoding.strip().lower() != "identity":
        # A kilobyte of gzip can be a gigabyte of zeros.
        raise NoReply(f"it answered in Content-Encoding {shortened(encoding)!r}; it was asked for identity", status)


def _reason(error: httpx.HTTPError) -> str:
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__cause__ or cause.__context__
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {cause.verify_message.rstrip('.')}; {_REMEDY}"
    said = shortened(cause.strerror or str(cause) if isinstance(cause, OSError) else str(error))
    if isinstance(error, httpx.ConnectError):
        return f"no TLS with it: {said}" if isinstance(cause, ssl.SSLError) else f"no connection: {said}"
    return f"its answer broke off{'' if isinstance(cause, OSError) else ' or is not HTTP'}: {said}"


class _StrictContext(ssl.SSLContext):
    """Makes a cut connection an error; by default it would end a reply without a length."""

    def wrap_socket(self, *arguments: Any, **named: Any) -> ssl.SSLSocket:
        self.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", ssl.Options(0))  # set by Python 3.11.2 of Debian 12
        return super().wrap_socket(*arguments, **named | {"suppress_ragged_eofs": False})


@functools.cache
def _certificates() -> ssl.SSLContext:
    """The system's certificates, or those in SSL_CERT_FILE and SSL_CERT_DIR. Loading takes 20 ms, once per process."""
    context = _StrictContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    return context
