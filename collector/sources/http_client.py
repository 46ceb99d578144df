"""HttpClient: requests to one HTTP server that may be slow, broken or hostile, with httpx.

    client = HttpClient(address, limits, {"Accept": "application/json"})
    body = client.exchange("http://host/path").reply()          raises NoReply

    time      one deadline over the whole request, from the name look-up to the last byte      Limits.timeout_seconds
    body      counted while it is received                                                     Limits.max_reply_bytes
    head      100 KiB                                                                          httpcore's limit

httpx's timeouts bound each read, so they never expire for a server that sends a byte now and then. A name look-up or
connection attempt can't be interrupted. So a request runs on another thread than its caller's, which waits until the
deadline, then shuts the socket down: that ends the read. While a look-up hangs, the next request fails at once.

A connection is kept open between requests. If the server closed it in the meantime, the request is sent again on a new
one, so send only requests that may be repeated. Requests at the same time, see :meth:`HttpClient.exchange`, have a
connection each.

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
from collections.abc import Mapping
from typing import Any

import httpx

from collector.loop.timeouts import Call, CallThread, Hung
from collector.sources.target import Address, Limits, NoReply
from shm.errors import ConfigurationError
from shm.safe_repr import shortened

_REMEDY = "add its authority's to the certificates of this host, or name a file of both in SSL_CERT_FILE"
_NO_HEADERS: Mapping[str, str] = {}

# Parsing a url takes a tenth of a request's time, and the same ones are asked every interval.
_parsed = functools.lru_cache(64)(httpx.URL)


class HttpClient:
    """Sends requests to the server at ``address``. Raises ConfigurationError for a malformed host."""

    def __init__(self, address: Address, limits: Limits, headers: Mapping[str, str] = _NO_HEADERS) -> None:
        self.address = address
        self.limits = limits
        self._headers = httpx.Headers({"User-Agent": "fogmetrics", "Accept-Encoding": "identity", **headers})
        if address.user or address.password:
            login = base64.b64encode(f"{address.user}:{address.password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {login}"
        try:
            self.secure = httpx.URL(address.url).scheme == "https"
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"the address {address.shown!r} can't be used: {error}") from None
        # Those that no request is using. The last used is the next, so that requests in turn need only one.
        self.idle: list[_Connection] = []
        self.thread = CallThread("the request")

    def exchange(
        self,
        url: str,
        *,
        headers: Mapping[str, str] = _NO_HEADERS,
        body: bytes | None = None,
        timeout_seconds: float | None = None,
    ) -> Exchange:
        """GET ``url``, or POST ``body`` to it. The request's time begins now."""
        seconds = self.limits.timeout_seconds if timeout_seconds is None else timeout_seconds
        # Each attempt to connect has half of the time: the first address of a name may never answer, such as an IPv6
        # address behind a firewall.
        timeouts = dict.fromkeys(("read", "write", "pool"), seconds) | {"connect": seconds / 2}
        all_headers = self._headers.copy()
        all_headers.update(headers)
        request = httpx.Request(
            "GET" if body is None else "POST",
            _parsed(url),
            headers=all_headers,
            content=body,
            extensions={"timeout": timeouts},
        )
        return Exchange(self, request, time.monotonic() + seconds)

    def close(self) -> None:
        self.thread.close()
        for connection in self.idle:
            connection.close()


class Exchange:
    """A request with its reply. It is called on one thread, while another waits for its :meth:`reply`."""

    def __init__(self, client: HttpClient, request: httpx.Request, deadline: float) -> None:
        self._client = client
        self._request = request
        self._deadline = deadline  # of the monotonic clock
        self._connection: _Connection | None = None

    def __call__(self) -> bytes | NoReply:
        """Errors are returned, not raised: the call would keep their tracebacks, and with them connection and body."""
        try:
            connection = self._client.idle.pop()
        except IndexError:
            connection = _Connection(self._client)
        self._connection = connection
        try:
            return connection.run(self._request, self._deadline)
        except NoReply as error:
            return error.with_traceback(None)
        except httpx.TimeoutException:
            return self._client.limits.late()
        except httpx.HTTPError as error:
            return NoReply(_reason(error))
        finally:
            self._client.idle.append(connection)

    def reply(self, call: Call[bytes | NoReply] | None = None) -> bytes:
        """Wait for the body until the deadline. Raises NoReply.

        ``call`` runs this exchange; None: the client's own thread does, one exchange at a time.
        """
        call = call or self._client.thread.start(self, self._client.limits.timeout_seconds)
        if not call.returned_within(self._deadline - time.monotonic()):
            if self._connection is not None:
                self._connection.shut_down()
            raise self._client.limits.late()
        try:
            reply = call.result()
        except Hung:
            raise NoReply("the previous request has not ended: its name look-up or connection hangs") from None
        if isinstance(reply, NoReply):
            raise NoReply(str(reply), reply.status)
        return reply


class _Connection:
    """One connection at a time to the server of ``client``, made when it is needed."""

    def __init__(self, client: HttpClient) -> None:
        self._limits = client.limits
        self._transport = httpx.HTTPTransport(
            verify=_certificates() if client.secure else False,  # False: load none, as plain HTTP needs none
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=1, keepalive_expiry=None),
            uds=client.address.unix_path or None,
        )
        self._socket: socket.socket | None = None  # of the last connection
        self._connected = False  # a connection was made in this attempt
        self._deadline = 0.0

    def run(self, request: httpx.Request, deadline: float) -> bytes:
        """Send the request and read the reply. Raises NoReply or httpx.HTTPError."""
        self._deadline = deadline
        request.extensions["trace"] = self._trace
        response = self._send(request)
        try:
            _check_head(response)
            return self._body(response)
        finally:
            response.close()  # closes the connection, too, if the reply was not read to its end

    def shut_down(self) -> None:
        """On another thread: end the read. A connection attempt ends by its own timeout, then by the deadline."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # closed or disconnected
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._transport.close()

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
